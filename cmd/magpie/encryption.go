package main

import (
	"github.com/magpie-k8s/magpie/client"
	"github.com/magpie-k8s/magpie/client/config"
)

// encryption is what the settings say of TLS on a port, as agents are told; nil if they say nothing.
func encryption(t *config.TLS) *client.Encryption {
	if t == nil {
		return nil
	}
	e := &client.Encryption{Own: pair(t.Keys)}
	if c := t.Clients; c != nil {
		e.Clients = map[string]client.ClientAuth{config.VerifyRequest: client.AuthRequest, config.VerifyRequire: client.AuthRequire}[c.Verify]
		if e.Clients != client.AuthNone {
			e.ClientCA = authority(c.CA, t.Secret)
		}
	}
	if o := t.Original; o != nil {
		e.Original, e.Anonymous, e.OriginalName = pair(o.Keys), o.Anonymous, o.ServerName
		if o.Verify {
			e.OriginalCA = authority(o.CA, o.Secret, t.Secret)
		}
	}
	return e
}

func pair(k config.Keys) client.Pair { return client.Pair(k) }

// authority is the file, or ca.crt of the first secret that there is.
func authority(file string, secrets ...string) client.Authority {
	if file != "" {
		return client.Authority{Path: file}
	}
	for _, secret := range secrets {
		if secret != "" {
			return client.Authority{Secret: secret}
		}
	}
	return client.Authority{}
}
