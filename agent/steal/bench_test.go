package steal

import (
	"net"
	"net/netip"
	"testing"

	"github.com/magpie-k8s/magpie/internal/testnet"
)

// BenchmarkDialOriginal is what a passed connection costs us beyond accepting it; compare with dialling from a thread inside.
func BenchmarkDialOriginal(b *testing.B) {
	for _, way := range []string{"native", "IPv4 restored", "IPv4", "IPv6"} {
		b.Run(way, func(b *testing.B) {
			n := testnet.New(b)
			mustListen(b, n.Target, port)
			g := testnet.NewCgroup(b, "")
			cgroup, local := "", netip.AddrPortFrom(n.Target.Addr4, port)
			switch way {
			case "IPv4 restored":
				cgroup = g.Path
			case "IPv6":
				local = netip.AddrPortFrom(n.Target.Addr6, port)
			}
			r := mustOpen(b, n.Target, cgroup, port+1)
			client := netip.MustParseAddrPort("198.18.7.1:7777")
			for b.Loop() {
				var c interface {
					net.Conn
					SetLinger(sec int) error
				}
				var err error
				if way == "native" {
					err = n.Target.NS.Do(func() (err error) {
						c, err = net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(local))
						return err
					})
				} else {
					c, err = r.DialOriginal(b.Context(), client, local)
				}
				if err != nil {
					b.Fatal(err)
				}
				readLine(c)
				c.SetLinger(0) // no TIME_WAIT
				c.Close()
			}
		})
	}
}
