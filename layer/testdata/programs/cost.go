// Measures calls from the inside: cost connect ADDR | serve PORT | ask ADDR | open PATH | stat PATH | unix | datagram ADDR, and a count.
// Each prints the median and the 99th percentile in nanoseconds.
package main

import (
	"fmt"
	"log"
	"net"
	"os"
	"slices"
	"strconv"
	"syscall"
	"time"
)

func main() {
	what, n := os.Args[1], 1
	if len(os.Args) > 3 {
		n, _ = strconv.Atoi(os.Args[3])
	}
	arg := os.Args[2]
	switch what {
	case "connect": // and close
		measure(n, func() error {
			c, err := net.Dial("tcp", arg)
			if err == nil {
				c.Close()
			}
			return err
		})
	case "serve":
		serve(arg)
	case "ask": // connect, be accepted, get a byte: what a client of the server above waits for
		buf := make([]byte, 1)
		measure(n, func() error {
			c, err := net.Dial("tcp", arg)
			if err != nil {
				return err
			}
			defer c.Close()
			_, err = c.Read(buf)
			return err
		})
	case "open": // and close
		measure(n, func() error {
			fd, err := syscall.Open(arg, syscall.O_RDONLY, 0)
			if err == nil {
				err = syscall.Close(fd)
			}
			return err
		})
	case "stat":
		measure(n, func() error {
			var st syscall.Stat_t
			return syscall.Stat(arg, &st)
		})
	case "unix": // sendmsg and recvmsg, as gRPC, X11 and D-Bus do
		pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
		if err != nil {
			log.Fatal(err)
		}
		buf := make([]byte, 1)
		measure(n, func() error {
			if err := syscall.Sendmsg(pair[0], buf, nil, nil, 0); err != nil {
				return err
			}
			_, _, _, _, err := syscall.Recvmsg(pair[1], buf, nil, 0)
			return err
		})
	case "datagram": // there and back on an unconnected socket
		to, err := net.ResolveUDPAddr("udp", arg)
		if err != nil {
			log.Fatal(err)
		}
		c, err := net.ListenPacket("udp", ":0")
		if err != nil {
			log.Fatal(err)
		}
		buf := make([]byte, 1)
		measure(n, func() error {
			if _, err := c.WriteTo(buf, to); err != nil {
				return err
			}
			_, _, err := c.ReadFrom(buf)
			return err
		})
	}
}

func serve(port string) {
	l, err := net.Listen("tcp", ":"+port)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("listening")
	for {
		c, err := l.Accept()
		if err != nil {
			log.Fatal(err)
		}
		c.Write([]byte{1})
		c.Close()
	}
}

func measure(n int, what func() error) {
	took := make([]time.Duration, 0, n)
	for range n {
		started := time.Now()
		if err := what(); err != nil {
			log.Fatal(err)
		}
		took = append(took, time.Since(started))
	}
	slices.Sort(took)
	fmt.Println(took[n/2].Nanoseconds(), took[n*99/100].Nanoseconds())
}
