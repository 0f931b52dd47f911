package interop

import (
	"context"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/interop"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	testgrpc "google.golang.org/grpc/interop/grpc_testing"
)

// answeredBy is the trailer with the name of who answered a call.
const answeredBy = "x-answered-by"

// serveGRPC is gRPC's own interop server, which adds its name to the trailers of all answers.
func serveGRPC(name string, l net.Listener) error {
	who := metadata.Pairs(answeredBy, name)
	server := grpc.NewServer(
		grpc.StreamInterceptor(func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			stream.SetTrailer(who)
			return next(srv, stream)
		}),
		grpc.UnaryInterceptor(unaryNamed(who)),
		grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error { return status.Error(codes.Unimplemented, "not known here") }),
	)
	testgrpc.RegisterTestServiceServer(server, interop.NewTestServer())
	return server.Serve(l)
}

func unaryNamed(who metadata.MD) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, in any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		if err := grpc.SetTrailer(ctx, who); err != nil {
			return nil, err
		}
		return next(ctx, in)
	}
}
