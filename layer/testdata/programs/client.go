// A client built without cgo: no C library to intercept, its own resolver, epoll under every call.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"
)

func main() {
	for _, probe := range os.Args[1:] {
		words := strings.Fields(probe)
		var result string
		switch addr := func() string { return net.JoinHostPort(words[1], words[2]) }; words[0] {
		case "lookup":
			result = lookup(words[1])
		case "connect", "nonblock": // Go connects without blocking in any case
			result = connect(addr(), 0)
		case "impatient":
			result = connect(addr(), 200*time.Millisecond)
		case "send":
			result = send(addr())
		case "converse":
			result = converse(addr())
		case "get":
			result = get(words[1])
		}
		fmt.Printf("%s: %s\n", probe, result)
	}
}

func lookup(name string) string {
	found, err := net.LookupHost(name)
	switch {
	case err != nil && strings.Contains(err.Error(), "no such host"):
		return "no such name"
	case err != nil:
		return err.Error()
	case len(found) > 1:
		return fmt.Sprint(len(found), " addresses")
	}
	return found[0]
}

func connect(addr string, limit time.Duration) string {
	c, err := net.DialTimeout("tcp", addr, limit)
	if err != nil {
		return errno(err)
	}
	defer c.Close()
	return fmt.Sprintf("ok from %v to %v", c.LocalAddr(), c.RemoteAddr())
}

func send(addr string) string {
	to, _ := net.ResolveUDPAddr("udp", addr)
	c, err := net.ListenPacket("udp", ":0")
	if err != nil {
		return errno(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := c.WriteTo([]byte("hello"), to); err != nil {
		return errno(err)
	}
	buf := make([]byte, 64)
	n, from, err := c.ReadFrom(buf)
	if err != nil {
		return errno(err)
	}
	return fmt.Sprintf("%s from %v", buf[:n], from)
}

func converse(addr string) string {
	c, err := net.Dial("udp", addr)
	if err != nil {
		return errno(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	c.Write([]byte("hello"))
	buf := make([]byte, 64)
	n, err := c.Read(buf)
	if err != nil {
		return errno(err)
	}
	return fmt.Sprintf("%s from %v", buf[:n], c.RemoteAddr())
}

func get(url string) string {
	res, err := http.Get(url)
	if err != nil {
		return errno(err)
	}
	defer res.Body.Close()
	line, _, _ := bufio.NewReader(res.Body).ReadLine()
	return string(line)
}

func errno(err error) string {
	var timeout net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "ECONNREFUSED"
	case errors.Is(err, syscall.EHOSTUNREACH):
		return "EHOSTUNREACH"
	case errors.Is(err, syscall.ETIMEDOUT):
		return "ETIMEDOUT"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "gave up"
	}
	return err.Error()
}
