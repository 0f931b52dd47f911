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

// answer is what every server of the lab answers: small, so that the cost of the way shows most.
const answer = "hello from the lab, forty-four bytes long.."

// startOriginal starts the server behind all ways but the stolen one. The rivals have it where nobody claims, or
// their requests would pass through the agent as well.
func startOriginal(ctx context.Context, l *lab) error {
	conf, err := l.nginxConf("original", `server { listen 8080 backlog=4096; listen 8079 backlog=4096; location / { add_header X-Who original; return 200 "`+answer+`"; } }`)
	if err != nil {
		return err
	}
	if l.original, err = l.start(within(l.target, endCPU.pin("nginx", "-c", conf)...)...); err != nil {
		return err
	}
	return l.answered(ctx, directAt, "", "original")
}

// startNginx starts a rival: nginx that routes by the same header.
func startNginx(ctx context.Context, l *lab) error {
	conf, err := l.nginxConf("rival", `
	map $http_x_user $to { default app; "me" dev; }
	upstream app { server 127.0.0.1:8079; keepalive 128; keepalive_requests 1000000000; }
	upstream dev { server 127.0.0.1:9; keepalive 128; }
	server { listen 8082 backlog=4096; location / { proxy_pass http://$to; proxy_http_version 1.1; proxy_set_header Connection ""; } }`)
	if err != nil {
		return err
	}
	if l.nginx, err = l.start(within(l.target, proxyCPU.pin("nginx", "-c", conf)...)...); err != nil {
		return err
	}
	return l.answered(ctx, nginxAt, "", "original")
}

// nginxConf writes a configuration: one process, one thread, nothing logged, connections kept.
func (l *lab) nginxConf(name, servers string) (path string, err error) {
	path = filepath.Join(l.dir, name+".conf")
	text := fmt.Sprintf(`daemon off; master_process off; pid %[1]s/%[2]s.pid; error_log %[1]s/%[2]s.log; events { worker_connections 8192; }
http { access_log off; keepalive_requests 1000000000;
client_body_temp_path %[1]s; proxy_temp_path %[1]s; fastcgi_temp_path %[1]s; uwsgi_temp_path %[1]s; scgi_temp_path %[1]s;
%[3]s }
`, l.dir, name, servers)
	return path, os.WriteFile(path, []byte(text), 0o644)
}

// startHAProxy starts the other rival. Its other settings for reuse, pools and buffers measured alike.
func startHAProxy(ctx context.Context, l *lab) (err error) {
	if l.haproxy, err = l.startHAProxyWith(""); err != nil {
		return err
	}
	return l.answered(ctx, haproxyAt, "", "original")
}

// startHAProxyWith starts HAProxy with a protocol other than its default for both sides.
func (l *lab) startHAProxyWith(protocol string) (*exec.Cmd, error) {
	name, value, _ := strings.Cut(ours, ": ")
	conf := filepath.Join(l.dir, "haproxy.cfg")
	text := `global
  nbthread 1
  maxconn 8192
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  option http-keep-alive
  http-reuse always
frontend f
  bind :8081 backlog 4096 ` + protocol + `
  use_backend dev if { req.hdr(` + name + `) -i ` + value + ` }
  default_backend app
backend app
  server a 127.0.0.1:8079 ` + protocol + `
backend dev
  server d 127.0.0.1:9
`
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		return nil, err
	}
	return l.start(within(l.target, proxyCPU.pin("haproxy", "-db", "-f", conf)...)...)
}

func (l *lab) socket() string { return filepath.Join(l.dir, "agent.sock") }

// startAgent starts an agent with one thread, as the rivals have.
func startAgent(ctx context.Context, l *lab) (err error) {
	if l.agent, err = l.start(proxyCPU.pin("env", "GOMAXPROCS=1", "bin/magpie-agent", "serve", "--target", "netns/"+l.target, "--socket", l.socket())...); err != nil {
		return err
	}
	return eventually(ctx, func() error { _, err := os.Stat(l.socket()); return err })
}

// execSteal is magpie exec up to its command.
func (l *lab) execSteal() []string {
	return []string{"bin/magpie", "exec", "--agent", l.socket(), "--target", "netns/" + l.target, "--steal", "--http-header-filter", ours, "--"}
}

// startSession starts a session whose local process is the same small server as the original.
func startSession(ctx context.Context, l *lab) error {
	conf, err := l.nginxConf("local", `server { listen 8080 backlog=4096; location / { add_header X-Who session; return 200 "`+answer+`"; } }`)
	if err != nil {
		return err
	}
	l.session, err = l.start(within(l.home, append(l.execSteal(), "nginx", "-c", conf)...)...)
	if err != nil {
		return err
	}
	err = errors.Join(l.answered(ctx, original, ours, "session"), l.answered(ctx, original, "", "original"))
	if err != nil {
		return err
	}
	pid, err := os.ReadFile(filepath.Join(l.dir, "local.pid"))
	if err != nil {
		return err
	}
	if l.local, err = strconv.Atoi(strings.TrimSpace(string(pid))); err != nil {
		return err
	}
	l.idle, err = l.memory()
	l.idle.when = "idle, one session, one claim"
	return err
}
