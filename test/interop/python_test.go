package interop

import (
	"path/filepath"
	"testing"
)

// TestTheCoreOfGRPCMixesBothKindsOnOneChannel has gRPC in C make the calls, as clients in Python, Ruby, PHP and C++ do.
func TestTheCoreOfGRPCMixesBothKindsOnOneChannel(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.both(t, "grpc", "grpc")
	said, status := s.run(t, "/usr/bin/python3", filepath.Join("testdata", "client.py"), s.at(claimed))
	if status != 0 || said != "600 calls" {
		t.Errorf("exit status %d: %s", status, said)
	}
}
