package route

import (
	"testing"
)

func TestStolenRequestDoesNotWishForHTTP2(t *testing.T) {
	const (
		start    = "GET / HTTP/1.1\r\nHost: shop\r\n" + mine + "\r\n"
		settings = "HTTP2-Settings: AAMAAABkAAQAAP__\r\n"
	)
	for name, c := range map[string]struct{ wish, left string }{
		"alone":            {"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n" + settings, ""},
		"in another order": {settings + "Upgrade: H2C\r\nA: b\r\nconnection:http2-settings ,upgrade\r\n", "A: b\r\n"},
		"beside others":    {"Connection:  keep-alive,Upgrade, HTTP2-Settings\r\nUpgrade: h2c, odd/1\r\n" + settings, "Connection: keep-alive, Upgrade\r\nUpgrade: odd/1\r\n"},
		"in a line of its own": {"Connection: Upgrade\r\nConnection: HTTP2-Settings\r\nUpgrade: odd\r\nUpgrade: h2c\r\n" + settings,
			"Connection: Upgrade\r\nUpgrade: odd\r\n"},
		"not named":        {"Upgrade: h2c\r\nX:  y \r\n", "X:  y \r\n"},
		"another protocol": {"Connection:  Upgrade,HTTP2-Settings\r\nUpgrade:  odd\r\n" + settings, "Connection:  Upgrade,HTTP2-Settings\r\nUpgrade:  odd\r\n" + settings},
		"no wish":          {settings, settings},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := mustStage(t, mustListen(t, scripted(t)), 0)
			s.claim("me", mine, mustListen(t, scripted(t, step{start + c.left + "\r\n", local}, step{getMine, local})))
			conn := mustDial(t, s.addr)
			play(t, conn, step{start + c.wish + "\r\n", local}, step{getMine, local})
		})
	}
}

// Whom the session cannot answer gets its wish from the original, as it came.
func TestLostRequestKeepsItsWish(t *testing.T) {
	say := "GET / HTTP/1.1\r\n" + mine + "\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
	s := mustStage(t, mustListen(t, scripted(t, step{say, original})), 0)
	s.claim("me", mine, "127.0.0.1:1")
	play(t, mustDial(t, s.addr), step{say, original})
}
