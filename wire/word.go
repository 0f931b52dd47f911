package wire

// FarewellFor is what tells a client that the agent ends its session, and why; final if the client must not come back.
func FarewellFor(why error, final bool) *Open {
	return &Open{What: &Open_Farewell{Farewell: &Farewell{Why: failure(why), Final: final}}}
}

// Err returns why the session ends, as an *Error; nil if the agent did not say.
func (f *Farewell) Err() error { return f.GetWhy().asError() }

// NoticeOf is what tells a client something that its user should know, in words as an *Error has them.
func NoticeOf(what error) *Open {
	return &Open{What: &Open_Notice{Notice: &Notice{What: failure(what)}}}
}

// Err returns what is noticed, as an *Error; nil if the agent did not say.
func (n *Notice) Err() error { return n.GetWhat().asError() }
