package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/magpie-k8s/magpie/client"
)

func TestASessionOnManyPodsIsOneRow(t *testing.T) {
	start := time.Now().Add(-3 * time.Minute)
	mine := func(after time.Duration, holdings ...client.Holding) client.Running {
		return client.Running{ID: "4f1c09ae", User: "me", Host: "laptop", Command: "./ems", Since: start.Add(after), Holdings: holdings}
	}
	web := client.Holding{Port: 8080, Mode: "steal", Filter: `header("x-user: me")`}
	all := client.Holding{Port: 5432, Mode: "steal"}
	colleague := client.Running{ID: "00c0ffee", User: "you", Host: "desk", Command: "bash", Since: start.Add(-time.Hour)}
	var list sessionList
	list.add("dev", "ems-2", []client.Running{mine(time.Second, web, all)})
	list.add("dev", "ems-1", []client.Running{mine(0, web), colleague})
	list.add("test", "ems-1", []client.Running{{ID: "4f1c09ae", Since: start.Add(time.Second)}})
	got := list.sorted()
	if len(got) != 3 || got[0].ID != "00c0ffee" || got[1].ID != "4f1c09ae" || got[2].Namespace != "test" {
		t.Fatalf("got %+v", got)
	}
	if s := got[1]; !slices.Equal(s.Pods, []string{"ems-1", "ems-2"}) || !s.Since.Equal(start) || len(s.Claims) != 2 || s.Claims[0].Port != 5432 {
		t.Errorf("joined to %+v", s)
	}
	var out strings.Builder
	if err := (&output{format: "wide"}).print(&out, listingOf(got[:2], false)); err != nil {
		t.Fatal(err)
	}
	const want = `ID         WHO         PODS          TAKES                                                       AGE   COMMAND
00c0ffee   you@desk    ems-1         nothing                                                     63m   bash
4f1c09ae   me@laptop   ems-1,ems-2   steal 5432: every connection; steal 8080: header("x-user: me")   3m    ./ems
`
	if fields(out.String()) != fields(want) {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}

// fields leaves the width of columns to tabwriter.
func fields(s string) string { return strings.Join(strings.Fields(s), " ") }
