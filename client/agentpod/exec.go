package agentpod

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/klog/v2"
)

// An executed is a pipe through the standard streams of a program in the agent's container, which joins them to its socket.
type executed struct {
	in     *io.PipeWriter
	out    *io.PipeReader
	cancel context.CancelFunc
	done   chan struct{}
}

// exec opens a pipe. Whether the program runs shows when it is read.
func (a *Agent) exec(context.Context) (io.ReadWriteCloser, error) {
	program, err := a.program()
	if err != nil {
		return nil, err
	}
	quiet := klog.NewContext(context.Background(), klog.Logger{}) // client-go would log each end
	ctx, cancel := context.WithCancel(quiet)
	stdin, in := io.Pipe()
	out, stdout := io.Pipe()
	e := &executed{in: in, out: out, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(e.done)
		complaint := &complaint{}
		err := program.StreamWithContext(ctx, remotecommand.StreamOptions{Stdin: stdin, Stdout: stdout, Stderr: complaint})
		err = complaint.explain(err)
		stdin.CloseWithError(err)
		stdout.CloseWithError(err)
	}()
	return e, nil
}

func (a *Agent) program() (remotecommand.Executor, error) {
	request := a.cluster.Client().CoreV1().RESTClient().Post().Namespace(a.namespace).Resource("pods").Name(a.name).SubResource("exec")
	at := request.VersionedParams(&corev1.PodExecOptions{
		Container: a.container, Stdin: true, Stdout: true, Stderr: true,
		Command: []string{"/magpie-agent", "pipe", "--socket", socket},
	}, scheme.ParameterCodec).URL()
	config := a.cluster.Config()
	socketed, err := remotecommand.NewWebSocketExecutor(config, "GET", at.String())
	if err != nil {
		return nil, fmt.Errorf("open exec: %w", err)
	}
	plain, err := remotecommand.NewSPDYExecutor(config, "POST", at)
	if err != nil {
		return nil, fmt.Errorf("open exec: %w", err)
	}
	return remotecommand.NewFallbackExecutor(socketed, plain, notWebSocket)
}

func (e *executed) Read(b []byte) (int, error)  { return e.out.Read(b) }
func (e *executed) Write(b []byte) (int, error) { return e.in.Write(b) }

// Close ends the program with its streams.
func (e *executed) Close() error {
	e.in.Close()
	e.out.Close()
	e.cancel()
	<-e.done
	return nil
}

// A complaint keeps the first of what a program says on its standard error.
type complaint struct {
	mu   sync.Mutex
	text []byte
}

func (c *complaint) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.text = append(c.text, b[:min(len(b), maxComplaint-len(c.text))]...)
	return len(b), nil
}

// explain is the end of a program: io.EOF, or why.
func (c *complaint) explain(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	said := strings.TrimSpace(string(c.text))
	switch {
	case err == nil:
		return io.EOF
	case said != "":
		return fmt.Errorf("%w: %s", err, said)
	case errors.Is(err, context.Canceled):
		return io.EOF
	}
	return err
}
