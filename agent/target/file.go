package target

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"syscall"
)

// ReadFile returns what a regular file of the target holds, at most so many bytes: see Open.
func (t *Target) ReadFile(path string, most int64) ([]byte, error) {
	b, err := t.readFile(path, most)
	if errors.Is(err, fs.ErrPermission) {
		return nil, &Error{err.Error(), syscall.EACCES, "root must be able to read it, without the rights that an agent gives up; or use a Secret"}
	}
	return b, err
}

func (t *Target) readFile(path string, most int64) ([]byte, error) {
	f, err := t.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, &fs.PathError{Op: "read", Path: path, Err: errors.New("it is no regular file")}
	}
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	switch {
	case err != nil:
		return nil, err
	case int64(len(b)) > most:
		return nil, &fs.PathError{Op: "read", Path: path, Err: fmt.Errorf("it has more than %d bytes", most)}
	}
	return b, nil
}
