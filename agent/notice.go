package agent

import (
	"context"
	"time"

	"github.com/magpie-k8s/magpie/wire"
)

// noticePatience is how long a client may take to hear something that ends nothing.
const noticePatience = 5 * time.Second

// notice tells the developer something. A client that does not hear it has missed it.
func (s *session) notice(what error) {
	c := s.pick()
	if c == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), noticePatience)
	defer cancel()
	stream, err := c.Open(ctx, wire.NoticeOf(what))
	if err != nil {
		return
	}
	defer stream.Close()
	if err := stream.Opened(ctx); err != nil {
		c.log.Debug("notice not heard", "session", s.name, "err", err)
	}
}
