package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

var update = flag.Bool("update", false, "write the golden files anew")

var (
	who     = &Who{User: "ann", Host: "laptop", Pid: 4711, Command: "./my-shop", Id: "0badcafe"}
	holding = &Holding{Port: 80, Mode: Mode_MODE_STEAL, Filter: "header(x-user: ann)", SinceUnixNanos: 1e18}
	session = &Session{Name: "ann-7", Who: who, SinceUnixNanos: 1e18, Holdings: []*Holding{holding}}
)

// messages has each message of wire.proto with each field set.
var messages = map[string]proto.Message{
	"open-calls":    &Open{What: &Open_Calls{Calls: &Calls{}}},
	"open-connect":  connect,
	"open-datagram": &Open{What: &Open_Connect{Connect: &Connect{Network: Network_NETWORK_UDP, To: AddressOf(here)}}},
	"open-incoming": &Open{What: &Open_Incoming{Incoming: &Incoming{Claim: 7, Client: AddressOf(here), Local: AddressOf(shop)}}},
	"open-watch":    &Open{What: &Open_Watch{Watch: &Watch{}}},
	"open-farewell": &Open{What: &Open_Farewell{Farewell: &Farewell{Why: &Failure{Errno: 125, Cause: "stopped by bob", Hint: "ask bob"}, Final: true}}},
	"open-incoming-tls": &Open{What: &Open_Incoming{Incoming: &Incoming{
		Claim: 7, Client: AddressOf(here), Local: AddressOf(shop), Tls: &TlsHello{ServerName: "shop.dev", Protocols: []string{"h2"}},
	}}},
	"open-notice":  &Open{What: &Open_Notice{Notice: &Notice{What: &Failure{Cause: "port 8443 is TLS", Hint: "name its certificate"}}}},
	"opened":       &Opened{Local: AddressOf(here)},
	"opened-not":   &Opened{Failure: &Failure{Errno: 111, Cause: "connect 198.18.0.2:80: connection refused", Hint: "is it running?"}},
	"end-stop":     &End{Stream: 5, Kind: EndKind_END_KIND_STOP},
	"end-reset":    &End{Stream: 5, Kind: EndKind_END_KIND_RESET, Errno: 104},
	"end-seen":     &End{Stream: 5, Kind: EndKind_END_KIND_RESET_SEEN},
	"address-zone": &Address{Ip: []byte{0xfe, 0x80, 15: 1}, Port: 53, Zone: "eth0"},
	"hello":        &HelloRequest{Version: "0.1.0", Features: []string{"watch"}, Session: []byte("secret"), Who: who, Target: "netns/shop"},
	"hello-answer": &HelloResponse{
		Version: "0.1.0", Features: []string{"watch"}, Session: []byte("secret"), Name: "ann-7", AgentPid: 42,
		Target: &Target{Name: "netns/shop", Netns: 4026532024, Pid: 99, RestoresPeer: true, Missing: []*Missing{{Feature: "mirror", Cause: "no", Hint: "wait"}}},
	},
	"environment":        &EnvironmentRequest{},
	"environment-answer": &EnvironmentResponse{Variables: [][]byte{[]byte("A=1"), []byte("B=\xff")}},
	"names":              &NamesRequest{},
	"names-answer":       &NamesResponse{ResolvConf: []byte("nameserver 10.0.0.10\n"), Hosts: []byte("127.0.0.1 localhost\n"), NsswitchConf: []byte("hosts: files dns\n"), Hostname: "shop-0"},
	"claim":              &ClaimRequest{Port: 80, Mode: Mode_MODE_MIRROR, Filter: "header(x-user: ann)"},
	"claim-tls": &ClaimRequest{
		Port: 8443, Mode: Mode_MODE_STEAL, Filter: `header("x-user: ann")`, Local: LocalProtocol_LOCAL_PROTOCOL_TLS, Flush: true, LikelyTls: true,
		Tls: &Tls{
			Own:     &Certificate{Chain: &Pem{Path: "/tls/tls.crt"}, Key: &Pem{Path: "/tls/tls.key"}},
			Clients: ClientAuth_CLIENT_AUTH_REQUIRE, ClientCa: &Pem{Content: []byte("-----BEGIN CERTIFICATE-----")},
			Original:     &Certificate{Chain: &Pem{Content: []byte("chain")}, Key: &Pem{Content: []byte("key")}},
			OriginalCa:   &Pem{Path: "/tls/ca.crt"},
			OriginalName: "shop.dev",
			Anonymous:    true,
		},
	},
	"claim-answer-more": &ClaimResponse{Outcome: &ClaimResponse_Claimed{Claimed: &Claimed{Claim: 7, SelfTestMicros: 310, Older: 3, Sealed: true}}},
	"claim-answer":      &ClaimResponse{Outcome: &ClaimResponse_Claimed{Claimed: &Claimed{Claim: 7, SelfTestMicros: 310}}},
	"claim-conflict":    &ClaimResponse{Outcome: &ClaimResponse_Conflict{Conflict: &Conflict{Holder: session, Held: holding}}},
	"release":           &ReleaseRequest{Claim: 7},
	"release-answer":    &ReleaseResponse{},
	"listeners":         &ListenersRequest{},
	"listeners-answer":  &ListenersResponse{Addresses: []*Address{AddressOf(shop), AddressOf(here)}},
	"sessions":          &SessionsRequest{},
	"sessions-answer":   &SessionsResponse{Sessions: []*Session{session}},
	"leave":             &LeaveRequest{},
	"leave-answer":      &LeaveResponse{Last: true},
	"stop":              &StopRequest{Id: "0badcafe", Who: who},
	"stop-answer":       &StopResponse{Stopped: 2},
	"inspect":           &InspectRequest{},
	"inspect-answer": &InspectResponse{
		Kernel: "6.18.5", Node: "node-1", Version: "0.2.0", Listeners: []*Address{AddressOf(shop)},
		Features: []*Feature{{Name: "sk_lookup", Present: true}, {Name: "client addresses", Cause: "no cgroup v2", Hint: "mount it"}},
	},
	"exchange": &Exchange{
		Session: "ann-7", Client: AddressOf(here), Local: AddressOf(shop), Method: []byte("GET"), Path: []byte("/a?b=c"),
		Status: 200, DurationMicros: 1500, AtUnixNanos: 1e18, Lost: 3,
	},
}

func TestEachMessageHasItsBytes(t *testing.T) {
	covered := map[string]bool{}
	for name, m := range messages {
		b, err := appendMessage(nil, m)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join("testdata", "golden", name+".hex")
		if *update {
			if err := os.WriteFile(path, []byte(hex.Dump(b)), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := hex.Dump(b); got != string(want) {
			t.Errorf("%s is now\n%swas\n%s", name, got, want)
		}
		back := m.ProtoReflect().New().Interface()
		r := bytes.NewReader(append(b, "bytes that follow"...))
		if err := readMessage(iotest.OneByteReader(r), back); err != nil || !proto.Equal(m, back) {
			t.Errorf("%s came back as %s, %v", name, prototext.Format(back), err)
		}
		if r.Len() != len("bytes that follow") {
			t.Errorf("%s: read beyond the message", name)
		}
		cover(covered, m.ProtoReflect())
	}
	all := File_wire_proto.Messages()
	for i := range all.Len() {
		if name := string(all.Get(i).Name()); !covered[name] {
			t.Errorf("no golden file for %s", name)
		}
	}
}

func TestBrokenMessagesAreErrors(t *testing.T) {
	whole, err := appendMessage(nil, connect)
	if err != nil {
		t.Fatal(err)
	}
	for n := range whole {
		want := error(syscall.EPROTO)
		if n == 0 {
			want = io.EOF
		}
		if err := readMessage(bytes.NewReader(whole[:n]), &Open{}); !errors.Is(err, want) {
			t.Errorf("%d of %d bytes: %v; want %v", n, len(whole), err, want)
		}
	}
	if err := readMessage(strings.NewReader("\x00\x02\xff\xff"), &Open{}); !errors.Is(err, syscall.EPROTO) {
		t.Errorf("no protobuf: %v; want EPROTO", err)
	}
	if _, err := appendMessage(nil, &ClaimRequest{Filter: strings.Repeat("x", maxMessage)}); !errors.Is(err, syscall.EMSGSIZE) {
		t.Errorf("too long: %v; want EMSGSIZE", err)
	}
	if _, err := appendMessage(nil, &Opened{Failure: failure(&Error{Cause: strings.Repeat("\xff", maxMessage), Advice: strings.Repeat("x", maxMessage)})}); err != nil {
		t.Errorf("a failure must always fit: %v", err)
	}
}

func TestBrokenOpenIsRefusedWithEPROTO(t *testing.T) {
	client, agent := mustCarriers(t)
	for _, bad := range []string{"\x00\x02\xff\xff", "\x00\x00", "\x00\x02\x7a\x00", "\xff\xffcut", "\x00"} {
		<-client.greeted
		client.opening <- struct{}{}
		ours, err := client.open()
		<-client.opening
		if err != nil {
			t.Fatal(err)
		}
		mustWrite(t, ours, bad)
		ours.CloseWrite()
		theirs, err := agent.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := theirs.Opening(); !errors.Is(err, syscall.EPROTO) {
			t.Errorf("opening %q: %v; want EPROTO", bad, err)
		}
		if err := ours.Opened(t.Context()); !errors.Is(err, syscall.EPROTO) {
			t.Errorf("opened %q: %v; want EPROTO", bad, err)
		}
		ours.Close()
	}
	eventuallyEmpty(t, client, agent)
}

func TestAddressesSurvive(t *testing.T) {
	for _, bad := range []*Address{nil, {}, {Ip: []byte{1, 2, 3}}, {Ip: []byte{1, 2, 3, 4}, Port: 65536}, {Ip: make([]byte, 17)}} {
		if _, err := bad.AddrPort(); !errors.Is(err, syscall.EPROTO) {
			t.Errorf("%v: %v; want EPROTO", bad, err)
		}
	}
	if got, err := AddressOf(here).AddrPort(); err != nil || got != here {
		t.Errorf("%v came back as %v, %v", here, got, err)
	}
}

func FuzzMessage(f *testing.F) {
	for _, m := range messages {
		b, err := appendMessage(nil, m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte("\xfb0 a long message that comes byte by byte must not cost its length for each"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for _, m := range []proto.Message{&Open{}, &Opened{}, &End{}, &Exchange{}} {
			err := readMessage(bytes.NewReader(b), m)
			var partial []byte
			other := m.ProtoReflect().New().Interface()
			otherErr := readResumably(iotest.OneByteReader(bytes.NewReader(b)), &partial, other)
			if (err == nil) != (otherErr == nil) || err == nil && !proto.Equal(m, other) {
				t.Fatalf("%v, %v; resumably %v, %v", m, err, other, otherErr)
			}
		}
		runtime.ReadMemStats(&after)
		if took := after.TotalAlloc - before.TotalAlloc; took > 1<<20 {
			t.Fatalf("%d bytes of input took %d bytes of memory", len(b), took)
		}
	})
}

// cover notes the types of m and of all messages in it.
func cover(covered map[string]bool, m protoreflect.Message) {
	covered[string(m.Descriptor().Name())] = true
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.Message() == nil:
		case f.IsList():
			for i := range v.List().Len() {
				cover(covered, v.List().Get(i).Message())
			}
		default:
			cover(covered, v.Message())
		}
		return true
	})
}
