package testnet

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestTargetAndClientReachEachOtherAtOnce(t *testing.T) {
	n := New(t)
	for _, addr := range []netip.Addr{n.Target.Addr4, n.Target.Addr6, n.Target.Link} {
		var l net.Listener
		n.Target.Do(t, func() (err error) {
			l, err = net.Listen("tcp", netip.AddrPortFrom(addr, 0).String())
			return err
		})
		defer l.Close()
		go func() {
			if c, err := l.Accept(); err == nil {
				io.WriteString(c, "hello")
				c.Close()
			}
		}()
		start := time.Now()
		n.Client.Do(t, func() error {
			if addr.Zone() != "" {
				addr = addr.WithZone(n.Client.Link.Zone())
			}
			to := netip.AddrPortFrom(addr, l.Addr().(*net.TCPAddr).AddrPort().Port())
			c, err := net.DialTimeout("tcp", to.String(), 5*time.Second)
			if err != nil {
				return err
			}
			defer c.Close()
			got, err := io.ReadAll(c)
			if string(got) != "hello" {
				t.Errorf("%v: got %q", addr, got)
			}
			return err
		})
		if took := time.Since(start); took > 500*time.Millisecond {
			t.Errorf("%v: the first packets were lost: connect took %v", addr, took)
		}
	}
}

func TestLoneHasNoRouteOut(t *testing.T) {
	h := Lone(t)
	for addr, want := range map[string]error{"198.18.7.1:80": syscall.ENETUNREACH, "[fd18::1]:80": syscall.ENETUNREACH, "127.0.0.1:1": syscall.ECONNREFUSED, "[::1]:1": syscall.ECONNREFUSED} {
		err := h.NS.Do(func() error {
			_, err := net.DialTimeout("tcp", addr, time.Second)
			return err
		})
		if !errors.Is(err, want) {
			t.Errorf("dial %s: %v, want %v", addr, err, want)
		}
	}
}

func TestProcessStartsInNamespaceAndCgroup(t *testing.T) {
	h, g := Lone(t), NewCgroup(t, "")
	child := NewCgroup(t, g.Path)
	cmd := exec.CommandContext(context.Background(), "sleep", "60")
	child.Put(t, cmd)
	h.Start(t, cmd)
	proc := filepath.Join("/proc", strconv.Itoa(cmd.Process.Pid))
	if got, err := os.Readlink(proc + "/ns/net"); err != nil || got != h.NS.ID().String() {
		t.Errorf("netns %s (%v), want %v", got, err, h.NS.ID())
	}
	if got, err := os.ReadFile(proc + "/cgroup"); err != nil || !strings.Contains(string(got), filepath.Base(g.Path)+"/"+filepath.Base(child.Path)+"\n") {
		t.Errorf("cgroups %s (%v), want %s", got, err, child.Path)
	}
}

func TestNothingIsLeft(t *testing.T) {
	var names, paths []string
	t.Run("build", func(t *testing.T) {
		n, g := New(t), NewCgroup(t, "")
		cmd := exec.CommandContext(context.Background(), "sleep", "60")
		g.Put(t, cmd)
		n.Target.Start(t, cmd)
		names = []string{"/run/netns/" + n.Target.Name, "/run/netns/" + n.Client.Name}
		paths = append(names, g.Path, "/proc/"+strconv.Itoa(cmd.Process.Pid))
	})
	for _, p := range paths {
		if _, err := os.Stat(p); !os.IsNotExist(err) {
			t.Errorf("%s: %v", p, err)
		}
	}
}
