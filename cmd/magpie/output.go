package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/magpie-k8s/magpie/internal/nearest"
)

// formats are the ways to print a list, as kubectl names them.
var formats = []string{"table", "wide", "json", "yaml", "name"}

// output is the flag -o of a command that prints a list.
type output struct {
	format  string
	allowed []string
}

// register adds the flag; the first of the allowed formats is the default.
func (o *output) register(cmd *cobra.Command, allowed ...string) {
	o.allowed = allowed
	cmd.Flags().StringVarP(&o.format, "output", "o", allowed[0], "`format`: "+strings.Join(allowed, ", "))
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(allowed, cobra.ShellCompDirectiveNoFileComp))
}

func (o *output) check() error {
	if slices.Contains(o.allowed, o.format) {
		return nil
	}
	hint := "there are: " + strings.Join(o.allowed, ", ")
	if near := nearest.Word(o.format, o.allowed); near != "" {
		hint = "did you mean -o " + near + "?"
	}
	return usage(hint, "--output %q: there is no such format", o.format)
}

// A listing is a list as people read it, and as programs do.
type listing struct {
	header []string
	rows   [][]string
	wide   int      // how many columns at the end are for -o wide alone
	names  []string // for -o name
	values any      // for json and yaml
}

func (o *output) print(w io.Writer, l listing) error {
	switch o.format {
	case "json":
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		return enc.Encode(l.values)
	case "yaml":
		text, err := yaml.Marshal(l.values)
		if err == nil {
			_, err = w.Write(text)
		}
		return err
	case "name":
		for _, name := range l.names {
			if _, err := fmt.Fprintln(w, name); err != nil {
				return err
			}
		}
		return nil
	}
	columns := len(l.header)
	if o.format != "wide" {
		columns -= l.wide
	}
	return l.table(w, columns)
}

// table prints columns as kubectl does: three spaces between them, and nothing at all for an empty list.
func (l listing) table(w io.Writer, columns int) error {
	if len(l.rows) == 0 {
		return nil
	}
	tabs := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	for _, row := range append([][]string{l.header}, l.rows...) {
		fmt.Fprintln(tabs, strings.Join(row[:columns], "\t"))
	}
	return tabs.Flush()
}

// inNamespaces puts the namespace of each row before it.
func (l listing) inNamespaces(of func(row int) string) listing {
	l.header = append([]string{"NAMESPACE"}, l.header...)
	for i := range l.rows {
		l.rows[i] = append([]string{of(i)}, l.rows[i]...)
	}
	return l
}
