package main

import (
	"strings"
	"testing"
)

func TestAListIsPrintedForWhoReadsIt(t *testing.T) {
	type pet struct {
		Name string `json:"name"`
		Legs int    `json:"legs"`
	}
	l := listing{
		header: []string{"NAME", "LEGS", "FOOD"},
		rows:   [][]string{{"magpie", "2", "shiny"}, {"cat", "4", "birds"}},
		wide:   1,
		names:  []string{"bird/magpie", "cat/cat"},
		values: []pet{{"magpie", 2}, {"<cat>", 4}},
	}
	for format, want := range map[string]string{
		"table": "NAME     LEGS\nmagpie   2\ncat      4\n",
		"wide":  "NAME     LEGS   FOOD\nmagpie   2      shiny\ncat      4      birds\n",
		"name":  "bird/magpie\ncat/cat\n",
		"json":  "[\n  {\n    \"name\": \"magpie\",\n    \"legs\": 2\n  },\n  {\n    \"name\": \"<cat>\",\n    \"legs\": 4\n  }\n]\n",
		"yaml":  "- legs: 2\n  name: magpie\n- legs: 4\n  name: <cat>\n",
	} {
		var out strings.Builder
		if err := (&output{format: format}).print(&out, l); err != nil {
			t.Fatal(err)
		}
		if out.String() != want {
			t.Errorf("-o %s:\n%s\nwant\n%s", format, out.String(), want)
		}
	}
}

func TestAnEmptyListIsAnEmptyTableAndAnEmptyDocument(t *testing.T) {
	for format, want := range map[string]string{"table": "", "name": "", "json": "[]\n", "yaml": "[]\n"} {
		var out strings.Builder
		if err := (&output{format: format}).print(&out, listing{header: []string{"NAME"}, values: []int{}}); err != nil {
			t.Fatal(err)
		}
		if out.String() != want {
			t.Errorf("-o %s: %q, want %q", format, out.String(), want)
		}
	}
}
