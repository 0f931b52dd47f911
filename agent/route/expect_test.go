package route

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/magpie-k8s/magpie/filters"
)

// The client asks before it sends a body that we want to see: we tell it to go on, and it is told once.
func TestClientThatExpectsToBeToldIsToldOnce(t *testing.T) {
	const again = "HTTP/1.1 100 Continue\r\nX: 1\r\n\r\n"
	const hints = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
	for name, c := range map[string]struct{ answer, want string }{
		"no 100":                 {local, local},
		"100":                    {again + local, local},
		"100 in the middle":      {hints + again + local, hints + local},
		"two 100s":               {again + again + local, again + local},
		"100 as a part of a 200": {strings.Replace(local, "local", "100 C", 1), strings.Replace(local, "local", "100 C", 1)},
		"417":                    {"HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n"},
	} {
		for _, body := range []string{mineInside, othersInside + " "} {
			for _, torn := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, %s, torn %v", name, body, torn), func(t *testing.T) {
					t.Parallel()
					say := post("Expect: 100-Continue\r\n", body)
					head := strings.TrimSuffix(say, body)
					answers := mustListen(t, func(_ context.Context, conn net.Conn) {
						for _, a := range []string{c.answer, again + local} {
							if !expect(t, conn, say) {
								return
							}
							say = getMine
							for a != "" {
								n := len(a)
								if torn {
									n = 1
								}
								_, _ = io.WriteString(conn, a[:n])
								a = a[n:]
							}
						}
						_, _ = io.Copy(io.Discard, conn)
					})
					s := mustStage(t, answers, 0)
					if body == mineInside {
						s = mustStage(t, mustListen(t, scripted(t)), 0)
						s.port.Add(&Claim{Session: "me", Filter: filters.Any(mustFilter(t, mine), mustBody(t, "$.user.id: me")), Open: dialLocal(answers)})
					} else {
						s.claimBody("me", mustListen(t, nobody(t)))
					}
					conn := mustDial(t, s.addr)
					// The next answer's 100 is nobody's business but the client's.
					play(t, conn, step{head, goOn}, step{body, c.want}, step{getMine, again + local})
				})
			}
		}
	}
}

func TestNobodyIsToldToGoOnInVain(t *testing.T) {
	head := func(fields string) string { return strings.TrimSuffix(post(fields, mineInside), mineInside) }
	asks := head("Expect: 100-continue\r\n")
	for name, c := range map[string]struct{ first, rest string }{
		"not asked":         {head(""), mineInside},
		"something else":    {head("Expect: 100\r\n"), mineInside},
		"body is under way": {asks + mineInside[:1], mineInside[1:]},
		"of HTTP/1.0":       {strings.Replace(head("Expect: 100-continue\r\nConnection: keep-alive\r\n"), "HTTP/1.1", "HTTP/1.0", 1), mineInside},
		"body is too long":  {strings.Replace(asks, "Content-Length: ", "Content-Length: 99999", 1), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			serve := func(_ context.Context, conn net.Conn) {
				_, _ = io.CopyN(io.Discard, conn, int64(len(c.first+c.rest)))
				_, _ = io.WriteString(conn, local)
				_, _ = io.Copy(io.Discard, conn)
			}
			s := mustStage(t, mustListen(t, serve), 0)
			s.claimBody("me", mustListen(t, serve))
			conn := mustServe(t, s) // whose writes end when they are read
			_, _ = io.WriteString(conn, c.first)
			go func() { _, _ = io.WriteString(conn, c.rest) }()
			expect(t, conn, local) // and nothing before it
		})
	}
}

func TestToldToGoOnOnlyAfterEarlierAnswers(t *testing.T) {
	let := make(chan struct{})
	say := post("Expect: 100-continue\r\n", mineInside)
	head := strings.TrimSuffix(say, mineInside)
	s := mustStage(t, mustListen(t, func(_ context.Context, conn net.Conn) {
		if expect(t, conn, get) {
			<-let
			_, _ = io.WriteString(conn, original)
		}
		_, _ = io.Copy(io.Discard, conn)
	}), 0)
	s.claimBody("me", mustListen(t, scripted(t, step{say, local})))
	conn := mustDial(t, s.addr)
	_, _ = io.WriteString(conn, get+head)
	_ = conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, _ := conn.Read(make([]byte, 1)); n > 0 {
		t.Fatal("heard something before the first answer")
	}
	close(let)
	expect(t, conn, original+goOn)
	play(t, conn, step{mineInside, local})
}

func TestHeldRequestThatASessionCannotAnswerIsLost(t *testing.T) {
	say := post("Expect: 100-continue\r\n", mineInside)
	head := strings.TrimSuffix(say, mineInside)
	s := mustStage(t, mustListen(t, scripted(t, step{say, goOn + original})), 0)
	s.claimBody("me", "127.0.0.1:1")
	play(t, mustDial(t, s.addr), step{head, goOn}, step{mineInside, original})
}

// It turns out too late that the body is too long: somebody else answers then, and the client has been told once.
func TestToldToGoOnWithTooLongABody(t *testing.T) {
	say := strings.Replace(chunked("", strings.Repeat(" ", maxHeld), mineInside), "Transfer", "Expect: 100-continue\r\nTransfer", 1)
	end := strings.Index(say, "\r\n\r\n") + 4
	s := mustStage(t, mustListen(t, scripted(t, step{say, goOn + original})), 0)
	s.claimBody("me", mustListen(t, nobody(t)))
	play(t, mustDial(t, s.addr), step{say[:end], goOn}, step{say[end:], original})
}

// Beside a session that has what no filter wants, it is that one who must not tell again.
func TestToldToGoOnBesideAWholeClaim(t *testing.T) {
	says := []string{post("Expect: 100-continue\r\n", othersInside), post("Expect: 100-continue\r\n", mineInside)}
	s := mustStage(t, mustListen(t, scripted(t)), 0)
	s.claim("whole", "", mustListen(t, scripted(t, step{says[0], goOn + original})))
	s.claimBody("me", mustListen(t, scripted(t, step{says[1], goOn + local})))
	conn := mustDial(t, s.addr)
	play(t, conn, step{strings.TrimSuffix(says[0], othersInside), goOn}, step{othersInside, original},
		step{strings.TrimSuffix(says[1], mineInside), goOn}, step{mineInside, local})
}
