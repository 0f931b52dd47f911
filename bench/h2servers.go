package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// nghttpxAt is where the other rival of HTTP/2 listens; HAProxy is where it is for HTTP/1.
const nghttpxAt = targetIP + ":8082"

// An h2Server is one that answers in HTTP/2, as the original and as the local process.
type h2Server struct {
	name string
	argv func(l *lab, who string, port int) ([]string, error)
}

var (
	nghttpd = h2Server{"nghttpd", func(l *lab, who string, port int) ([]string, error) {
		files := filepath.Join(l.dir, who)
		err := os.MkdirAll(files, 0o755)
		if err == nil {
			err = os.WriteFile(filepath.Join(files, "index.html"), []byte(h2Answer(who)), 0o644)
		}
		return []string{"nghttpd", "--no-tls", "--workers=1", "--htdocs=" + files, strconv.Itoa(port)}, err
	}}
	netHTTP = h2Server{"Go's net/http", func(_ *lab, who string, port int) ([]string, error) {
		self, err := os.Executable()
		return []string{self, serveCommand, who, ":" + strconv.Itoa(port)}, err
	}}
)

// h2Answer is as long as answer.
func h2Answer(who string) string {
	return fmt.Sprintf("%-*s", len(answer), "hello from the "+who)
}

// openH2Lab is a lab in which all speak HTTP/2 without TLS.
func openH2Lab(ctx context.Context, server h2Server) (*lab, error) {
	return openLab(ctx,
		func(ctx context.Context, l *lab) (err error) {
			l.original, err = l.startH2(ctx, server, 8080, original)
			return err
		},
		func(ctx context.Context, l *lab) (err error) {
			l.direct, err = l.startH2(ctx, server, 8079, directAt)
			return err
		},
		startH2HAProxy, startNghttpx, startAgent,
		func(ctx context.Context, l *lab) error { return l.startH2Session(ctx, server) },
	)
}

func (l *lab) startH2(ctx context.Context, server h2Server, port int, at string) (*exec.Cmd, error) {
	argv, err := server.argv(l, "original", port)
	if err != nil {
		return nil, err
	}
	cmd, err := l.start(within(l.target, endCPU.pin(argv...)...)...)
	if err != nil {
		return nil, err
	}
	return cmd, l.answeredH2(ctx, at, "", "original")
}

func startH2HAProxy(ctx context.Context, l *lab) (err error) {
	l.haproxy, err = l.startHAProxyWith("proto h2")
	if err != nil {
		return err
	}
	return l.answeredH2(ctx, haproxyAt, "", "original")
}

// startNghttpx starts a rival that passes everything: it routes by path alone.
func startNghttpx(ctx context.Context, l *lab) (err error) {
	_, port, _ := strings.Cut(nghttpxAt, ":")
	l.nghttpx, err = l.start(within(l.target, proxyCPU.pin("nghttpx", "--conf=/dev/null", "--workers=1", "--accesslog-file=", "--log-level=FATAL",
		"--frontend=*,"+port+";no-tls", "--backend=127.0.0.1,8079;;proto=h2")...)...)
	if err != nil {
		return err
	}
	return l.answeredH2(ctx, nghttpxAt, "", "original")
}

func (l *lab) startH2Session(ctx context.Context, server h2Server) error {
	argv, err := server.argv(l, "session", 8080)
	if err != nil {
		return err
	}
	if l.session, err = l.start(within(l.home, append(l.execSteal(), argv...)...)...); err != nil {
		return err
	}
	if err := errors.Join(l.answeredH2(ctx, original, ours, "session"), l.answeredH2(ctx, original, "", "original")); err != nil {
		return err
	}
	if l.local, err = childOf(l.session.Process.Pid, filepath.Base(argv[0])); err != nil {
		return err
	}
	l.idle, err = l.memory()
	l.idle.when = "idle, one session, one claim"
	return err
}

// answeredH2 waits until a server answers in HTTP/2 with what is expected.
func (l *lab) answeredH2(ctx context.Context, at, header, by string) error {
	return eventually(ctx, func() error {
		said, err := l.ask(ctx, at, header, "--http2-prior-knowledge")
		if err == nil && !strings.Contains(said, h2Answer(by)) {
			err = fmt.Errorf("%s: not answered by the %s but: %s", at, by, said)
		}
		return err
	})
}
