package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
	"time"
)

const (
	// keptConnections is how many keep-alive connections the memory is measured with.
	keptConnections = 1000
	keptFor         = 5 * time.Second
)

// memory is what the agent and the client take at one moment, or at the most over a time, in MB.
type memory struct {
	when          string
	agent, client float64
}

// measureMemory measures under a thousand connections. How much is taken when idle was seen before any load.
func measureMemory(ctx context.Context, l *lab) ([]memory, error) {
	rows := []memory{l.idle}
	for _, v := range []struct{ when, header string }{
		{"%d keep-alive connections, passed", ""},
		{"%d keep-alive connections, stolen", ours},
	} {
		m, err := l.most(fmt.Sprintf(v.when, keptConnections), func() error {
			_, _, err := l.wrk(ctx, original, load{connections: keptConnections, length: keptFor, header: v.header})
			return err
		})
		if err != nil {
			return nil, err
		}
		rows = append(rows, m)
	}
	return rows, nil
}

// most is the most memory under a load whose connections are busy all the time: an upper bound for connections that are kept.
func (l *lab) most(when string, load func() error) (memory, error) {
	m := memory{when: when}
	done := make(chan error, 1)
	go func() { done <- load() }()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			return m, err
		case <-tick.C:
			now, err := l.memory()
			if err != nil {
				return m, err
			}
			m.agent, m.client = max(m.agent, now.agent), max(m.client, now.client)
		}
	}
}

func (l *lab) memory() (m memory, err error) {
	if m.agent, err = memoryOf(l.agent.Process.Pid); err != nil {
		return m, err
	}
	m.client, err = memoryOf(l.session.Process.Pid)
	return m, err
}

func printMemory(out io.Writer, rows []memory) {
	fmt.Fprint(out, "\nMemory (RSS)\n\n")
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "when\tagent\tmagpie exec\t")
	for _, m := range rows {
		fmt.Fprintf(w, "%s\t%s MB\t%s MB\t\n", m.when, megabytes(m.agent), megabytes(m.client))
	}
	w.Flush()
}

func megabytes(n float64) string { return strconv.FormatFloat(n, 'f', 1, 64) }
