// Package resolve reads the files by which a target resolves names. It never resolves one itself: the local process does, with these files.
package resolve

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// maxFile bounds each file. A hosts file that blocks advertisements has some 100,000 lines; three of these still fit into one answer of the wire.
const maxFile = 1 << 20

// Names is what the target goes by.
type Names struct {
	ResolvConf []byte // resolv.conf(5)
	Hosts      []byte // hosts(5)
	Nsswitch   []byte // nsswitch.conf(5)
	Hostname   string
}

// What a C library does where a file is missing, in words that every resolver understands.
const (
	noResolvConf = "nameserver 127.0.0.1\n" // resolv.conf(5)
	noHosts      = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
	noNsswitch   = "hosts: files dns\n"
)

// Target is a file system and a host name as the target sees them.
type Target interface {
	Open(path string) (*os.File, error)
	Hostname() (string, error)
}

// Read reads a target's names. A file that is missing has its default; one that is there and cannot be read is an error.
func Read(t Target) (Names, error) {
	var n Names
	for _, f := range []struct {
		path, missing string
		to            *[]byte
	}{
		{"/etc/resolv.conf", noResolvConf, &n.ResolvConf},
		{"/etc/hosts", noHosts, &n.Hosts},
		{"/etc/nsswitch.conf", noNsswitch, &n.Nsswitch},
	} {
		b, err := read(t, f.path)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
			b, err = []byte(f.missing), nil
		}
		if err != nil {
			return Names{}, fmt.Errorf("read names: %w", err)
		}
		*f.to = b
	}
	var err error
	if n.Hostname, err = t.Hostname(); err != nil {
		return Names{}, fmt.Errorf("read names: %w", err)
	}
	return n, nil
}

func read(t Target, path string) ([]byte, error) {
	f, err := t.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	// A fifo in its place would keep us waiting, a device feed us forever.
	if st, err := f.Stat(); err != nil {
		return nil, err
	} else if !st.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "read", Path: path, Err: fmt.Errorf("not a regular file: %w", syscall.EINVAL)}
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = &fs.PathError{Op: "read", Path: path, Err: syscall.EFBIG}
	}
	return b, err
}
