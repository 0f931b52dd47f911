// Package main makes an image of one static program without docker: of the agent, the same as deploy/Dockerfile. It is an archive that
// `docker load` and `ctr images import` take. The same program gives the same archive, byte for byte. It never talks to a registry.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

func main() {
	if err := run(os.Args[1:], os.Stderr); err != nil {
		fmt.Fprintf(os.Stderr, "image: %v\n", err)
		os.Exit(1)
	}
}

func run(args []string, stderr io.Writer) (err error) {
	flags := flag.NewFlagSet("image", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprintln(stderr, "usage: go run ./deploy/image -o FILE -t NAME:TAG bin/magpie-agent")
		flags.PrintDefaults()
	}
	out := flags.String("o", "", "the archive to write")
	tag := flags.String("t", "", "the image's name and tag")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *out == "" || *tag == "" || flags.NArg() != 1 {
		flags.Usage()
		return errors.New("an archive, a name and one program are needed")
	}
	program, err := os.ReadFile(flags.Arg(0))
	if err != nil {
		return fmt.Errorf("read program: %w", err)
	}
	file, err := os.Create(*out)
	if err != nil {
		return fmt.Errorf("write image: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	return write(file, filepath.Base(flags.Arg(0)), program, *tag)
}
