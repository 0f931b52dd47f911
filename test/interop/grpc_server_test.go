package interop

import (
	"context"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	_ "google.golang.org/grpc/encoding/gzip" // both sides compress
	"google.golang.org/grpc/interop"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	testgrpc "google.golang.org/grpc/interop/grpc_testing"
)

// answeredBy is the trailer with the name of who answered a call.
const answeredBy = "x-answered-by"

// The methods of a service that shows what a server sees. All take and give a Payload, as a stream.
const (
	probeEcho     = "/magpie.Probe/Echo"     // what comes, and the metadata as header and trailer
	probeFail     = "/magpie.Probe/Fail"     // a status with the words that came, and nothing before it
	probeDeadline = "/magpie.Probe/Deadline" // the minutes that are left
	probeWait     = "/magpie.Probe/Wait"     // begins an answer and waits for the end of the call
	probeEnd      = "/magpie.Probe/End"      // waits for the end of a call that waits, and says why it ended
	probeStop     = "/magpie.Probe/Stop"     // tells the server to stop once its calls are over
)

// grpcServer is gRPC's own interop server, which also tells who it is and what it sees.
type grpcServer struct {
	*grpc.Server
	name string
	ends chan string // causes, of calls to probeWait
}

// maxConnectionAge is when a server that ages lets connections go, and maxEnds how many ended calls wait to be asked for.
const (
	maxConnectionAge = 300 * time.Millisecond
	maxEnds          = 100
)

// serveGRPC returns nil after a graceful stop.
func serveGRPC(what, name string, l net.Listener) error {
	s := &grpcServer{name: name, ends: make(chan string, maxEnds)}
	options := []grpc.ServerOption{
		grpc.StreamInterceptor(s.stream), grpc.UnaryInterceptor(s.unary), grpc.UnknownServiceHandler(s.probe),
	}
	switch what {
	case "grpc-aging":
		options = append(options, grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionAge: maxConnectionAge, MaxConnectionAgeGrace: time.Minute}))
	case "grpc-pinging":
		options = append(options, grpc.KeepaliveParams(keepalive.ServerParameters{Time: time.Second, Timeout: time.Second}))
	}
	s.Server = grpc.NewServer(options...)
	testgrpc.RegisterTestServiceServer(s.Server, interop.NewTestServer())
	return s.Serve(l)
}

func (s *grpcServer) stream(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	stream.SetTrailer(metadata.Pairs(answeredBy, s.name))
	return next(srv, stream)
}

func (s *grpcServer) unary(ctx context.Context, in any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if err := grpc.SetTrailer(ctx, metadata.Pairs(answeredBy, s.name)); err != nil {
		return nil, err
	}
	out, err := next(ctx, in)
	if asked, ok := in.(*testgrpc.SimpleRequest); ok && asked.FillServerId && err == nil {
		out.(*testgrpc.SimpleResponse).ServerId = s.name
	}
	return out, err
}

func (s *grpcServer) probe(_ any, stream grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(stream)
	switch method {
	case probeEcho:
		return s.echo(stream)
	case probeWait:
		if err := stream.SendHeader(nil); err != nil {
			return err
		}
		<-stream.Context().Done()
		s.ends <- context.Cause(stream.Context()).Error()
		return stream.Context().Err()
	}
	var in testgrpc.Payload
	if err := stream.RecvMsg(&in); err != nil {
		return err
	}
	switch method {
	case probeFail:
		return status.Error(codes.DataLoss, string(in.Body))
	case probeDeadline:
		at, ok := stream.Context().Deadline()
		return stream.SendMsg(&testgrpc.Payload{Body: fmt.Appendf(nil, "%.0f %v", time.Until(at).Minutes(), ok)})
	case probeEnd:
		return stream.SendMsg(&testgrpc.Payload{Body: []byte(<-s.ends)})
	case probeStop:
		go s.GracefulStop()
		return stream.SendMsg(&testgrpc.Payload{})
	}
	return status.Error(codes.Unimplemented, "not known here")
}

// echo ends when the client's side does.
func (s *grpcServer) echo(stream grpc.ServerStream) error {
	in, _ := metadata.FromIncomingContext(stream.Context())
	back := metadata.MD{}
	for key, values := range in {
		if key == "x-echo" || key == "x-echo-bin" {
			back[key] = values
		}
	}
	if err := stream.SendHeader(back); err != nil {
		return err
	}
	stream.SetTrailer(back)
	for {
		var in testgrpc.Payload
		if err := stream.RecvMsg(&in); err != nil {
			return ignoreEOF(err)
		}
		if err := stream.SendMsg(&in); err != nil {
			return err
		}
	}
}
