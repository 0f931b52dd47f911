package client

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/magpie-k8s/magpie/wire"
)

// shelf is Secrets that count how often they are read.
type shelf struct {
	entries map[string]map[string][]byte
	reads   int
}

func (s *shelf) read(_ context.Context, name string) (map[string][]byte, error) {
	s.reads++
	if all, ok := s.entries[name]; ok {
		return all, nil
	}
	return nil, syscall.ENOENT
}

func TestAgentsAreToldFilesByNameAndSecretsByContent(t *testing.T) {
	s := &shelf{entries: map[string]map[string][]byte{"ems-tls": {"tls.crt": []byte("chain"), "tls.key": []byte("key"), "ca.crt": []byte("ca")}}}
	secret := Pair{Secret: "ems-tls"}
	content := func(text string) *wire.Pem { return &wire.Pem{Content: []byte(text)} }
	for name, c := range map[string]struct {
		e    *Encryption
		want *wire.Tls
	}{
		"nothing": {nil, nil},
		"files": {&Encryption{Own: Pair{Certificate: "/c", Key: "/k"}, Clients: AuthRequire, ClientCA: Authority{Path: "/ca"}, OriginalCA: Authority{Path: "/oca"}, OriginalName: "ems"},
			&wire.Tls{Own: &wire.Certificate{Chain: &wire.Pem{Path: "/c"}, Key: &wire.Pem{Path: "/k"}}, Clients: wire.ClientAuth_CLIENT_AUTH_REQUIRE,
				ClientCa: &wire.Pem{Path: "/ca"}, OriginalCa: &wire.Pem{Path: "/oca"}, OriginalName: "ems"}},
		"a secret": {&Encryption{Own: secret, Clients: AuthRequest, ClientCA: Authority{Secret: "ems-tls"}, Original: secret},
			&wire.Tls{Own: &wire.Certificate{Chain: content("chain"), Key: content("key")}, Clients: wire.ClientAuth_CLIENT_AUTH_REQUEST,
				ClientCa: content("ca"), Original: &wire.Certificate{Chain: content("chain"), Key: content("key")}}},
		"anonymous": {&Encryption{Own: Pair{Certificate: "/c", Key: "/k"}, Anonymous: true},
			&wire.Tls{Own: &wire.Certificate{Chain: &wire.Pem{Path: "/c"}, Key: &wire.Pem{Path: "/k"}}, Anonymous: true}},
	} {
		s.reads = 0
		got, err := c.e.message(t.Context(), s.read)
		if err != nil || !proto.Equal(got, c.want) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
		if s.reads > 1 {
			t.Errorf("%s: a secret is read %d times", name, s.reads)
		}
	}
}

func TestASecretWithoutItsEntriesIsNamed(t *testing.T) {
	s := &shelf{entries: map[string]map[string][]byte{"ems-tls": {"tls.crt": []byte("chain"), "tls.key": []byte("key")}, "other": {"password": []byte("x")}}}
	for name, c := range map[string]struct {
		e           Encryption
		read        ReadSecret
		err         error
		cause, hint string
	}{
		"no ca.crt":  {Encryption{Own: Pair{Secret: "ems-tls"}, ClientCA: Authority{Secret: "ems-tls"}}, s.read, syscall.ENOENT, "secret ems-tls has no ca.crt", "tls.crt and tls.key"},
		"no tls.crt": {Encryption{Own: Pair{Secret: "other"}}, s.read, syscall.ENOENT, "secret other has no tls.crt", "kubernetes.io/tls"},
		"no secret":  {Encryption{Own: Pair{Secret: "none"}}, s.read, syscall.ENOENT, "", ""},
		"no cluster": {Encryption{Own: Pair{Secret: "ems-tls"}}, nil, syscall.EINVAL, "the target is in no cluster", "files of the target"},
	} {
		_, err := c.e.message(t.Context(), c.read)
		var told *wire.Error
		if !errors.Is(err, c.err) || !strings.Contains(err.Error(), c.cause) || c.hint != "" && (!errors.As(err, &told) || !strings.Contains(told.Advice, c.hint)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
