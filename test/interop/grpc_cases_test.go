package interop

import (
	"fmt"
	"net"
	"testing"
)

// grpcCases are the cases of gRPC's interop client that its own server knows, all but those that need an account at Google.
// https://github.com/grpc/grpc/blob/master/doc/interop-test-descriptions.md
var grpcCases = []string{
	"empty_unary", "large_unary", "client_streaming", "server_streaming", "ping_pong", "empty_stream",
	"timeout_on_sleeping_server", "cancel_after_begin", "cancel_after_first_response",
	"status_code_and_message", "special_status_message", "custom_metadata",
	"unimplemented_method", "unimplemented_service",
	"rpc_soak", "channel_soak", "orca_per_rpc", "orca_oob",
}

// In both, who ought not to be asked knows no gRPC: one call that goes astray is one case that fails.

func TestGRPCInteropCasesPass(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.original(t, []string{program("server"), fmt.Sprintf("--port=%d", claimed)}, claimed)
	s.session(t, header(mine), small("http", local, fmt.Sprintf(":%d", claimed))...)
	s.grpcCases(t)
}

func TestGRPCInteropCasesAreStolen(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.original(t, small("http", original, fmt.Sprintf(":%d", claimed)), claimed)
	// Metrics out of band come over a stream that gRPC opens by itself, without the metadata of calls.
	wanted := []string{"--http-filter", `header("x-user: me") | path("^/xds.service.orca")`}
	s.session(t, wanted, program("server"), fmt.Sprintf("--port=%d", claimed))
	s.grpcCases(t, "--additional_metadata=x-user:me")
}

func (s *stage) grpcCases(t *testing.T, flags ...string) {
	host, port, _ := net.SplitHostPort(s.at(claimed))
	for _, name := range grpcCases {
		t.Run(name, func(t *testing.T) {
			flags := append(flags, `--service_config_json={"loadBalancingConfig": [{"test_backend_metrics_load_balancer": {}}]}`)
			argv := append([]string{program("client"), "--server_host=" + host, "--server_port=" + port, "--test_case=" + name}, flags...)
			if _, status := s.run(t, argv...); status != 0 {
				t.Errorf("exit status %d", status)
			}
		})
	}
}
