package client

import (
	"errors"
	"fmt"
	"sync"
	"testing"
)

func TestExchangesOfAllReplicasAreTold(t *testing.T) {
	t.Parallel()
	a, b := newSpot(t, "a"), newSpot(t, "b")
	f := newField(a)
	s, said := begin(t, f, "./shop")
	var mu sync.Mutex
	seen := map[string]string{}
	wait, err := s.Watch(t.Context(), func(x Exchange) {
		mu.Lock()
		defer mu.Unlock()
		seen[x.Path] = x.Session
	})
	if err != nil {
		t.Fatal(err)
	}
	waited := make(chan error, 1)
	go func() { waited <- wait() }()
	claim(t, s, "local")
	f.set(nil, a, b)
	said.has(t, "replica", "b: ")
	for _, p := range []*spot{a, b} {
		p.must(t, "x-user: me", "local")
		eventually(t, func() error {
			mu.Lock()
			defer mu.Unlock()
			if who, ok := seen["/"+p.name]; !ok || who != s.Name() {
				return fmt.Errorf("the request at %s was told as %q's", p.name, who)
			}
			return nil
		})
	}
	s.Close()
	if err := <-waited; err != nil && !errors.Is(err, errGone) {
		t.Error(err)
	}
}
