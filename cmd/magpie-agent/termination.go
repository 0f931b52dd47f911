package main

import (
	"errors"
	"io/fs"
	"os"
	"strings"

	"github.com/magpie-k8s/magpie/agent"
)

// terminationLog is where the kubelet looks for a container's last words.
const terminationLog = "/dev/termination-log"

// maxLastWords is how much of the cause is kept: the kubelet reads 4096 bytes, and a quoted one may take twice its length.
const maxLastWords = 1800

// sayLastWords leaves why the agent ends where the client finds it: in the status of its container. The file is made by the runtime; where there is none,
// nobody asks.
func sayLastWords(path string, why error) error {
	if path == "" {
		return nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(agent.Report(f, brief(why)), f.Close())
}

// brief cuts an error that is too long for the file, and its hint off.
func brief(err error) error {
	if text := err.Error(); len(text) > maxLastWords {
		return errors.New(strings.ToValidUTF8(text[:maxLastWords], ""))
	}
	return err
}
