//go:build e2e

package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// answer is how long the cluster may take for what a test waits for; on an idle machine it is a few seconds.
const answer = time.Minute

// shop is a namespace of a test's own, as kubectl sees it.
type shop struct {
	testing.TB
	places    places
	namespace string
}

// mustHaveShop makes a namespace that goes with the test. Labels are for Pod Security.
func mustHaveShop(tb testing.TB, labels ...string) shop {
	tb.Helper()
	p, err := findPlaces()
	if err != nil {
		tb.Fatal(err)
	}
	s := shop{TB: tb, places: p, namespace: fmt.Sprintf("check-%d", time.Now().UnixNano())}
	s.must("create", "namespace", s.namespace)
	tb.Cleanup(func() { s.must("delete", "namespace", s.namespace, "--wait=false") })
	for _, label := range labels {
		s.must("label", "namespace", s.namespace, label)
	}
	return s
}

func (s shop) command(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(s.Context(), s.places.kubectl(), append([]string{"--namespace", s.namespace}, args...)...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+s.places.kubeconfig())
	return cmd
}

func (s shop) run(stdin string, args ...string) (string, error) {
	cmd := s.command(args...)
	cmd.Stdin = strings.NewReader(stdin)
	output, err := cmd.CombinedOutput()
	if err != nil {
		return string(output), fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, output)
	}
	return string(output), nil
}

// must returns the output, also in a cleanup, where the test's context has ended.
func (s shop) must(args ...string) string {
	s.Helper()
	cmd := exec.Command(s.places.kubectl(), append([]string{"--namespace", s.namespace, "--kubeconfig", s.places.kubeconfig()}, args...)...)
	output, err := cmd.CombinedOutput()
	if err != nil {
		s.Fatalf("kubectl %s: %v: %s", strings.Join(args, " "), err, output)
	}
	return strings.TrimSpace(string(output))
}

// apply retries: a namespace is a moment older than its service account.
func (s shop) apply(manifest string) {
	s.Helper()
	s.eventually(func() error {
		_, err := s.run(manifest, "apply", "-f", "-")
		return err
	})
}

func (s shop) eventually(try func() error) {
	s.Helper()
	if err := eventually(answer, try); err != nil {
		s.Fatal(err)
	}
}

// eventuallyPrints waits until the command works and its output has the words.
func (s shop) eventuallyPrints(words string, args ...string) {
	s.Helper()
	s.eventually(func() error {
		output, err := s.run("", args...)
		if err == nil && !strings.Contains(output, words) {
			err = fmt.Errorf("kubectl %s: no %q in: %s", strings.Join(args, " "), words, output)
		}
		return err
	})
}

// refuses runs a command that the cluster must refuse with the words.
func (s shop) refuses(words string, args ...string) {
	s.Helper()
	if output, err := s.run("", args...); err == nil || !strings.Contains(output, words) {
		s.Errorf("kubectl %s: no refusal with %q but %v: %s", strings.Join(args, " "), words, err, output)
	}
}

// field is what kubectl finds at the path in the objects that its other arguments name.
func (s shop) field(path string, objects ...string) string {
	s.Helper()
	return s.must(append([]string{"get", "--output=jsonpath={" + path + "}"}, objects...)...)
}
