package filters

// body chooses by a value in a JSON body.
type body struct {
	expr string
}

func newBody(expr string) (*body, error) {
	return nil, &SyntaxError{Kind: kindBody, Expr: expr, Cause: "body expressions are not there yet"}
}

func (b *body) judge(_ *Request, doc *document) Verdict {
	if doc == nil {
		return NeedsBody
	}
	return No
}
