// Package main is what the tools image of the test cluster has beside busybox, whose static libc cannot look up names: under the name
// "get" it prints what is at a URL, asked for with a header if there is one, under "lookup" the addresses of a name.
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
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var err error
	switch args := os.Args[1:]; {
	case filepath.Base(os.Args[0]) == "lookup" && len(args) == 1:
		err = lookup(ctx, args[0])
	case filepath.Base(os.Args[0]) == "get" && len(args) == 1:
		err = get(ctx, args[0], "")
	case filepath.Base(os.Args[0]) == "get" && len(args) == 2:
		err = get(ctx, args[0], args[1])
	default:
		fmt.Fprintln(os.Stderr, "usage: get URL ['NAME: VALUE'] | lookup NAME")
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func get(ctx context.Context, url, header string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	if name, value, ok := strings.Cut(header, ":"); ok {
		request.Header.Set(name, strings.TrimSpace(value))
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
