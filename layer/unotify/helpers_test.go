//go:build linux && (amd64 || arm64)

package unotify

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// helpers are the programs under test: this binary, run under another name.
var helpers = map[string]func(){
	"helper-supervisor": helperSupervisor,
	"helper-pgid":       helperPgid,
	"helper-alarm":      helperAlarm,
	"helper-open":       helperOpen,
	"helper-status":     helperStatus,
}

func TestMain(m *testing.M) {
	Main()
	if f, ok := helpers[os.Args[0]]; ok {
		f()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// helperStatus prints what the kernel says of our signals; the Go runtime has added its handlers, the same each time.
func helperStatus() {
	b, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "SigBlk") || strings.HasPrefix(line, "SigIgn") {
			fmt.Print(line)
		}
	}
	fmt.Println(unix.Getpgrp())
}

// helperPgid makes a call that a handler answers: with a string at the very end of a page, or many times.
func helperPgid() {
	if os.Args[1] == "page" {
		mem, _ := unix.Mmap(-1, 0, 2*os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
		end := os.Getpagesize()
		_ = unix.Mprotect(mem[end:], unix.PROT_NONE)
		copy(mem[end-5:end], "edge\x00")
		n, _, _ := unix.Syscall(unix.SYS_GETPGID, uintptr(unsafe.Pointer(&mem[end-5])), 0, 0)
		fmt.Println(n, string(mem[end-5:end-1]))
		return
	}
	count, _ := strconv.Atoi(os.Args[1])
	if len(os.Args) > 2 { // one thread
		for range count {
			_, _, _ = unix.Syscall(unix.SYS_GETPGID, 0, 0, 0)
		}
		return
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range count {
				if n, _, _ := unix.Syscall(unix.SYS_GETPGID, uintptr(i), 0, 0); int(n) != i+1 {
					fmt.Println("call", i, "returned", n)
				}
			}
		})
	}
	wg.Wait()
	fmt.Println("done")
}

// helperOpen makes calls that are answered with descriptors.
func helperOpen() {
	count, _ := strconv.Atoi(os.Args[1])
	for i := range count {
		fd, _, errno := unix.Syscall(unix.SYS_GETPGID, 0, 0, 0)
		if errno != 0 || fd < 3 || unix.Close(int(fd)) != nil {
			fmt.Println("call", i, "returned", fd, errno)
			return
		}
	}
	fmt.Println("done")
}

// interrupt sends the signal of helperAlarm to the thread that made the call. By the time we know of the call, it sleeps.
func interrupt(tb testing.TB, c *Call) {
	tb.Helper()
	if _, _, errno := unix.RawSyscall(unix.SYS_TKILL, uintptr(c.TID), uintptr(unix.SIGUSR1), 0); errno != 0 {
		tb.Error(errno)
	}
}

// helperAlarm makes a call that a signal interrupts, and then another; with an argument, the kernel restarts the first,
// and the other is the same.
func helperAlarm() {
	runtime.LockOSThread()
	signal.Notify(make(chan os.Signal, 1), unix.SIGUSR1)
	restart := len(os.Args) > 1
	if !restart {
		// Go installs its handlers with SA_RESTART; without it the call comes back with EINTR.
		var sa [4]uint64
		_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(unix.SIGUSR1), 0, uintptr(unsafe.Pointer(&sa)), 8, 0, 0)
		sa[1] &^= 0x10000000 // SA_RESTART
		_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(unix.SIGUSR1), uintptr(unsafe.Pointer(&sa)), 0, 8, 0, 0)
	}
	var mem byte
	at := uintptr(unsafe.Pointer(&mem))
	if restart {
		first, _, _ := unix.Syscall(unix.SYS_GETPGID, 0, at, 0)
		other, _, _ := unix.Syscall(unix.SYS_GETPGID, 0, at, 0)
		fmt.Println(first, other)
		return
	}
	_, _, errno := unix.Syscall(unix.SYS_GETPGID, 0, at, 0)
	n, _, _ := unix.Syscall(unix.SYS_GETPGID, 1, at, 0)
	fmt.Println(errno, n, mem)
}

// helperSupervisor supervises the command in its arguments and continues every call.
func helperSupervisor() {
	p, err := Start(Command{Path: os.Args[1], Args: os.Args[1:], Stdout: os.Stdout, Stderr: os.Stderr}, []Rule{Notify(unix.SYS_CONNECT)})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	if err := p.Serve(func(*Call) Verdict { return Continue() }); err != nil {
		fmt.Println(err)
	}
	p.Close()
}

func mustRun(tb testing.TB, cmd Command) (status int, out string) {
	tb.Helper()
	return mustServe(tb, cmd, []Rule{Notify(unix.SYS_CONNECT)}, func(*Call) Verdict { return Continue() })
}

// mustServe runs the command until its whole tree is gone, and returns its status and all that it wrote.
func mustServe(tb testing.TB, cmd Command, rules []Rule, h Handler) (status int, out string) {
	tb.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		tb.Fatal(err)
	}
	defer r.Close()
	cmd.Stdout, cmd.Stderr = w, w
	p, err := Start(cmd, rules)
	w.Close()
	if err != nil {
		tb.Fatal(err)
	}
	var buf bytes.Buffer
	var wg sync.WaitGroup
	wg.Go(func() { io.Copy(&buf, r) })
	wg.Go(func() {
		if err := p.Serve(h); err != nil {
			tb.Error(err)
		}
	})
	ws, err := p.Wait()
	if err != nil {
		tb.Error(err)
	}
	if err := p.Gone(); err != nil {
		tb.Error(err)
	}
	if err := p.Close(); err != nil {
		tb.Error(err)
	}
	wg.Wait()
	if ws.Signaled() {
		return 128 + int(ws.Signal()), buf.String()
	}
	return ws.ExitStatus(), buf.String()
}
