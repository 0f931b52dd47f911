package route

import (
	"bytes"
	"fmt"
)

// failure is the answer that Magpie gives itself, because nobody else can.
func failure(session, cause string, head bool) []byte {
	body := fmt.Sprintf("Magpie: session %s did not answer: %s\n", session, cause)
	var b bytes.Buffer
	fmt.Fprintf(&b, "HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\nConnection: close\r\n\r\n",
		len(body))
	if !head {
		b.WriteString(body)
	}
	return b.Bytes()
}

// closing returns the head of an answer with Connection: close in the place of its Connection field, or as the last field.
// Keep-Alive goes; other Connection options stay. All other bytes are as they came. head is clean.
func closing(head []byte) []byte {
	out := make([]byte, 0, len(head)+len("Connection: close\r\n"))
	said := false
	for rest := head; len(rest) > 0; {
		i := bytes.IndexByte(rest, '\n') + 1
		line := rest[:i]
		rest = rest[i:]
		name, value, _ := bytes.Cut(line, []byte{':'})
		switch {
		case len(line) == 2 && !said:
			out = append(out, "Connection: close\r\n\r\n"...)
		case fold(name, "keep-alive"):
		case fold(name, "connection"):
			if options := closeOptions(value, said); options != "" {
				out = append(append(out, name...), ": "+options+"\r\n"...)
			}
			said = true
		default:
			out = append(out, line...)
		}
	}
	return out
}

// closeOptions returns the options of a Connection field with close instead of keep-alive.
func closeOptions(value []byte, said bool) string {
	options := ""
	if !said {
		options = "close"
	}
	for option := range bytes.SplitSeq(value, []byte{','}) {
		option = bytes.TrimSpace(option)
		if len(option) == 0 || fold(option, "keep-alive") || fold(option, "close") {
			continue
		}
		if options != "" {
			options += ", "
		}
		options += string(option)
	}
	return options
}
