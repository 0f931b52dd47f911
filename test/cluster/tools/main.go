// Package main is what the tools image of the test cluster has beside busybox, whose static libc cannot look up names: under the name
// "get" it prints what is at a URL, under "lookup" the addresses of a name.
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// patience is for the whole of an answer.
const patience = 5 * time.Second

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: get URL | lookup NAME")
		os.Exit(2)
	}
	work := get
	if filepath.Base(os.Args[0]) == "lookup" {
		work = lookup
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := work(ctx, os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func get(ctx context.Context, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if _, err := io.Copy(os.Stdout, answer.Body); err != nil {
		return err
	}
	if answer.StatusCode >= 400 {
		return fmt.Errorf("get %s: %s", url, answer.Status)
	}
	return nil
}

func lookup(ctx context.Context, name string) error {
	addresses, err := net.DefaultResolver.LookupHost(ctx, name)
	fmt.Println(strings.Join(addresses, " "))
	return err
}
