package wire

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// shopAgent answers with what its fields say.
type shopAgent struct {
	AgentService
	claim  func(context.Context, *ClaimRequest) (*ClaimResponse, error)
	values [][]byte
}

func (a *shopAgent) Hello(_ context.Context, r *HelloRequest) (*HelloResponse, error) {
	return &HelloResponse{Version: r.Version, Name: r.Who.GetUser()}, nil
}

func (a *shopAgent) Environment(context.Context, *EnvironmentRequest) (*EnvironmentResponse, error) {
	return &EnvironmentResponse{Variables: a.values}, nil
}

func (a *shopAgent) Release(context.Context, *ReleaseRequest) (*ReleaseResponse, error) {
	return &ReleaseResponse{}, nil
}

func (a *shopAgent) Claim(ctx context.Context, r *ClaimRequest) (*ClaimResponse, error) {
	return a.claim(ctx, r)
}

// mustCalls serves calls for one stream and returns the other end.
func mustCalls(tb testing.TB, a *shopAgent) (calls *Caller, served <-chan error) {
	tb.Helper()
	client, agent := mustCarriers(tb)
	done := make(chan error, 1)
	go func() {
		s, err := agent.Accept()
		if err == nil {
			_, err = s.Opening()
		}
		if err == nil {
			err = ServeCalls(tb.Context(), s, a)
		}
		done <- err
	}()
	calls, err := client.Calls(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { calls.Close() })
	return calls, done
}

func TestCallsRunSideBySide(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	calls, _ := mustCalls(t, &shopAgent{claim: func(context.Context, *ClaimRequest) (*ClaimResponse, error) {
		close(arrived)
		<-release
		return &ClaimResponse{}, nil
	}})
	var work sync.WaitGroup
	work.Go(func() {
		if _, err := calls.Claim(t.Context(), &ClaimRequest{}); err != nil {
			t.Error(err)
		}
	})
	within(t, "claim arrives", arrived)
	hello, err := calls.Hello(t.Context(), &HelloRequest{Version: "0.1.0", Who: who})
	if err != nil || hello.Name != "ann" {
		t.Error(hello, err)
	}
	close(release)
	work.Wait()
}

func TestErrorOfACallKeepsErrnoCauseAndHint(t *testing.T) {
	var why error
	calls, _ := mustCalls(t, &shopAgent{claim: func(context.Context, *ClaimRequest) (*ClaimResponse, error) { return nil, why }})
	for _, why = range []error{
		fmt.Errorf("steal port 80: %w", &Error{Errno: syscall.EPERM, Cause: "attach", Advice: "run as root"}),
		fmt.Errorf("steal port 80: %w", syscall.EPERM),
		fmt.Errorf("steal port 80: %w", fs.ErrPermission),
		errors.New("steal port 80: tired"),
	} {
		_, err := calls.Claim(t.Context(), &ClaimRequest{})
		var e *Error
		if !errors.As(err, &e) || e.Cause != why.Error() {
			t.Errorf("%v came as %v", why, err)
			continue
		}
		if want := AsError(why); *e != *want {
			t.Errorf("%#v came as %#v", want, e)
		}
	}
}

func TestUnknownCallIsENOSYS(t *testing.T) {
	calls, _ := mustCalls(t, &shopAgent{})
	err := calls.client.Call(t.Context(), "magpie.wire.v1.Agent", "Fly", &HelloRequest{}, &HelloResponse{})
	if !errors.Is(err, syscall.ENOSYS) {
		t.Errorf("%v; want ENOSYS", err)
	}
}

func TestCallGivenUpLeavesTheOthersAlone(t *testing.T) {
	release, ended := make(chan struct{}), make(chan struct{})
	calls, _ := mustCalls(t, &shopAgent{claim: func(context.Context, *ClaimRequest) (*ClaimResponse, error) {
		defer close(ended)
		<-release
		return &ClaimResponse{}, nil
	}})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := calls.Claim(ctx, &ClaimRequest{}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v; want Canceled", err)
	}
	close(release)
	within(t, "call runs to its end", ended)
	if _, err := calls.Hello(t.Context(), &HelloRequest{Who: who}); err != nil {
		t.Error(err)
	}
}

func TestCallsEndWithTheirStream(t *testing.T) {
	var running atomic.Int32
	calls, served := mustCalls(t, &shopAgent{claim: func(ctx context.Context, _ *ClaimRequest) (*ClaimResponse, error) {
		running.Add(1)
		defer running.Add(-1)
		<-ctx.Done()
		return nil, ctx.Err()
	}})
	failed := make(chan error, 1)
	go func() {
		_, err := calls.Claim(t.Context(), &ClaimRequest{})
		failed <- err
	}()
	for running.Load() == 0 {
		if _, err := calls.Hello(t.Context(), &HelloRequest{Who: who}); err != nil {
			t.Fatal(err)
		}
	}
	calls.Close()
	if err := <-failed; err == nil {
		t.Error("call outlived its stream")
	}
	if err := <-served; err != nil {
		t.Errorf("serve: %v", err)
	}
	if _, err := calls.Hello(t.Context(), &HelloRequest{Who: who}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("call after close: %v; want net.ErrClosed", err)
	}
}

func TestCallOnABrokenCarrierSaysWhy(t *testing.T) {
	a, b := mustPipe(t)
	mustWrite(t, b, "HTTP/1.1 400 Bad Request\r\n\r\n")
	client := Client(a)
	defer client.Close()
	calls, err := client.Calls(t.Context())
	if err == nil {
		defer calls.Close()
		_, err = calls.Hello(t.Context(), &HelloRequest{Who: who})
	}
	if err == nil || !strings.HasSuffix(err.Error(), `not a Magpie agent: it said "HTTP/1.1"`) {
		t.Errorf("hello: %v", err)
	}
}

func TestTooLongCallIsEMSGSIZE(t *testing.T) {
	calls, _ := mustCalls(t, &shopAgent{values: [][]byte{make([]byte, maxAnswer)}})
	if _, err := calls.Claim(t.Context(), &ClaimRequest{Filter: strings.Repeat("x", maxRequest)}); !errors.Is(err, syscall.EMSGSIZE) {
		t.Errorf("long request: %v; want EMSGSIZE", err)
	}
	if _, err := calls.Environment(t.Context(), &EnvironmentRequest{}); !errors.Is(err, syscall.EMSGSIZE) {
		t.Errorf("long answer: %v; want EMSGSIZE", err)
	}
	if _, err := calls.Hello(t.Context(), &HelloRequest{Who: who}); err != nil {
		t.Errorf("and the stream is gone: %v", err)
	}
}

func TestHostileCallFramesEndTheStreamOnly(t *testing.T) {
	frame := func(size, stream uint32, kind, flags byte) string {
		b := binary.BigEndian.AppendUint32(nil, size)
		return string(append(binary.BigEndian.AppendUint32(b, stream), kind, flags))
	}
	slow := func(ctx context.Context, _ *ClaimRequest) (*ClaimResponse, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	request := "\x0a\x14magpie.wire.v1.Agent\x12\x05Claim"
	for name, bad := range map[string]string{
		"data for a unary call": frame(uint32(len(request)), 1, 1, 0) + request + frame(0, 1, 3, 0),
		"4 GiB":                 frame(1<<32-1, 1, 1, 0),
		"an answer":             frame(0, 1, 2, 0),
		"cut off":               frame(100, 1, 1, 0) + "cut",
		"even stream":           frame(2, 2, 1, 0) + "\xff\xff",
		"no protobuf":           frame(2, 1, 1, 0) + "\xff\xff",
	} {
		client, agent := mustCarriers(t)
		ours, theirs := mustOpen(t, client, agent)
		done := make(chan struct{})
		go func() { defer close(done); _ = ServeCalls(t.Context(), theirs, &shopAgent{claim: slow}) }()
		mustWrite(t, ours, bad)
		ours.CloseWrite()
		within(t, "serve ends after "+name, done)
		if err := agent.Err(); err != nil {
			t.Errorf("%s: carrier is over: %v", name, err)
		}
	}
}

func TestFloodOfCallsIsAnswered(t *testing.T) {
	release := make(chan struct{})
	var running, most atomic.Int32
	var once sync.Once
	calls, _ := mustCalls(t, &shopAgent{claim: func(context.Context, *ClaimRequest) (*ClaimResponse, error) {
		n := running.Add(1)
		defer running.Add(-1)
		if n == maxCalls {
			once.Do(func() { close(release) })
		}
		most.Store(max(n, most.Load()))
		<-release
		return &ClaimResponse{}, nil
	}})
	var work sync.WaitGroup
	for range 20 * maxCalls {
		work.Go(func() {
			if _, err := calls.Claim(t.Context(), &ClaimRequest{}); err != nil {
				t.Error(err)
			}
		})
	}
	work.Wait()
	// One read of ttrpc has 4 KiB, which is less than another 128 requests.
	if most.Load() > 3*maxCalls {
		t.Errorf("%d ran at once", most.Load())
	}
}

// FuzzCalls feeds an agent bytes in the place of calls: the stream may end, the carrier and the process may not.
func FuzzCalls(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x1d\x00\x00\x00\x01\x01\x00\x0a\x14magpie.wire.v1.Agent\x12\x05Hello"))
	f.Add([]byte("\x00\x00\x00\x00\x00\x00\x00\x01\x03\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		client, agent := mustCarriers(t)
		ours, theirs := mustOpen(t, client, agent)
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = ServeCalls(t.Context(), theirs, &shopAgent{claim: func(context.Context, *ClaimRequest) (*ClaimResponse, error) {
				return nil, syscall.EPERM
			}})
		}()
		_, _ = ours.Write(b)
		ours.CloseWrite()
		within(t, "serve ends", done)
		if err := agent.Err(); err != nil {
			t.Fatal(err)
		}
	})
}
