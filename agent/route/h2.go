package route

import "github.com/magpie-k8s/magpie/agent/route/h2"

// frames is what a conn knows of HTTP/2.
type frames struct {
	relay *h2.Relay
	party *party // in the place of the original
}
