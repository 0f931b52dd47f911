package agent_test

import (
	"net/netip"

	"github.com/magpie-k8s/magpie/internal/testnet"
)

func addrPort(h *testnet.Host, port uint16) netip.AddrPort { return netip.AddrPortFrom(h.Addr4, port) }
