package route

import "bytes"

// withoutHTTP2 returns the head of a request without its wish to go on in HTTP/2 (RFC 7540 section 3.2, that servers may ignore):
// answered by a session, it would take the whole connection from everybody else. Other protocols may be switched to. It returns
// nil if there is no such wish. All other bytes are as they came. head is clean.
func withoutHTTP2(head []byte) []byte {
	if !wishesHTTP2(head) {
		return nil
	}
	others := false // protocols
	for name, value := range fieldLines(head) {
		if fold(name, "upgrade") {
			rest, _ := without(value, "h2c")
			others = others || rest != ""
		}
	}
	out := make([]byte, 0, len(head))
	for rest := head; len(rest) > 0; {
		i := bytes.IndexByte(rest, '\n') + 1
		line := rest[:i]
		rest = rest[i:]
		name, value, _ := bytes.Cut(line, []byte{':'})
		left, changed := "", false
		switch {
		case fold(name, "http2-settings"):
			continue
		case fold(name, "upgrade"):
			left, changed = without(value, "h2c")
		case fold(name, "connection") && others:
			left, changed = without(value, "http2-settings")
		case fold(name, "connection"):
			left, changed = without(value, "http2-settings", "upgrade")
		}
		switch {
		case !changed:
			out = append(out, line...)
		case left != "":
			out = append(append(out, name...), ": "+left+"\r\n"...)
		}
	}
	return out
}

func wishesHTTP2(head []byte) bool {
	for name, value := range fieldLines(head) {
		if fold(name, "upgrade") {
			if _, wishes := without(value, "h2c"); wishes {
				return true
			}
		}
	}
	return false
}

// fieldLines goes through the lines of a head after its first.
func fieldLines(head []byte) func(yield func(name, value []byte) bool) {
	return func(yield func(name, value []byte) bool) {
		for line := range bytes.Lines(head[bytes.IndexByte(head, '\n')+1:]) {
			name, value, _ := bytes.Cut(line, []byte{':'})
			if !yield(name, value) {
				return
			}
		}
	}
}

// without returns the list of value without some tokens, and reports whether there were any of them.
func without(value []byte, tokens ...string) (left string, changed bool) {
	for token := range bytes.SplitSeq(value, []byte{','}) {
		token = bytes.TrimSpace(token)
		unwanted := len(token) == 0
		for _, t := range tokens {
			if fold(token, t) {
				unwanted, changed = true, true
			}
		}
		switch {
		case unwanted:
		case left == "":
			left = string(token)
		default:
			left += ", " + string(token)
		}
	}
	return left, changed
}
