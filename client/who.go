package client

import (
	"os"
	"os/user"
	"strings"

	"github.com/magpie-k8s/magpie/wire"
)

// self tells colleagues whose session this is. Under sudo that is whoever called sudo.
func self(command []string) *wire.Who {
	who := &wire.Who{Pid: uint32(os.Getpid()), Command: strings.Join(command, " ")}
	who.Host, _ = os.Hostname()
	who.User = os.Getenv("SUDO_USER")
	if u, err := user.Current(); who.User == "" && err == nil {
		who.User = u.Username
	}
	return who
}
