package session

import (
	"net"
	"net/smtp"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/magpie-k8s/magpie/internal/testnet"
	"github.com/magpie-k8s/magpie/internal/testrun"
)

// mailServer is Python's own where it still has one (before 3.12), else the few words of it that a client needs.
const mailServer = `
import asyncio, sys, warnings
warnings.simplefilter("ignore")
try:
    import asyncore, smtpd
    server = smtpd.DebuggingServer(("0.0.0.0", 25), None)
    asyncore.loop()
except ImportError:
    async def serve(r, w):
        data = False
        w.write(b"220 original ESMTP\r\n")
        async for line in r:
            if data and line != b".\r\n":
                print(line.decode().strip(), flush=True)
                continue
            answer = "354 go on" if line[:4].upper() == b"DATA" else "221 bye" if line[:4].upper() == b"QUIT" else "250 fine"
            data = answer.startswith("354")
            w.write(answer.encode() + b"\r\n")
            if answer.startswith("221"):
                break
        w.close()
    async def main():
        await (await asyncio.start_server(serve, "0.0.0.0", 25)).serve_forever()
    asyncio.run(main())
`

// TestMailIsDeliveredThroughAFilteredPort has a server that speaks first, and a client that waits for it.
func TestMailIsDeliveredThroughAFilteredPort(t *testing.T) {
	t.Parallel()
	n := testnet.New(t)
	var delivered lines
	server := exec.Command("/usr/bin/python3", "-u", "-c", mailServer)
	server.Stdout = &delivered
	startIn(t, n, server, "25")
	startLocal(t, []string{"--target", "netns/" + n.Target.Name, "--steal", "--http-header-filter", "x-user: me"}, "http", ":25").WaitFor(t, "ready")
	for range 3 {
		begin := time.Now()
		conn, err := dial(n.Client, net.JoinHostPort(n.Target.Addr4.String(), "25"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(testrun.Patience))
		c, err := smtp.NewClient(conn, "shop")
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took > 400*time.Millisecond {
			t.Errorf("the greeting took %v", took)
		}
		mustDeliver(t, c, "x-user: me\r\n\r\nNothing here is HTTP.\r\n")
	}
	testrun.Eventually(t, func() error { return delivered.want("Nothing here is HTTP.", 3) })
}

func mustDeliver(tb testing.TB, c *smtp.Client, text string) {
	tb.Helper()
	err := c.Mail("a@shop.test")
	if err == nil {
		err = c.Rcpt("b@shop.test")
	}
	if err != nil {
		tb.Fatal(err)
	}
	w, err := c.Data()
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := w.Write([]byte(strings.TrimSpace(text))); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	if err := c.Quit(); err != nil {
		tb.Fatal(err)
	}
}
