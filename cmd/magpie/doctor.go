package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/magpie-k8s/magpie/client/cluster"
	"github.com/magpie-k8s/magpie/client/doctor"
)

// statusIll is the exit status of a doctor who found what is in the way.
const statusIll = 1

// checkup is one magpie doctor.
type checkup struct {
	kubectl *cluster.Flags
	aim     aim
	agent   agentFlags
	output  output
}

func newDoctor(kubectl *cluster.Flags) *cobra.Command {
	d := &checkup{kubectl: kubectl}
	cmd := &cobra.Command{
		Use:   "doctor [--target KIND/NAME]",
		Short: "Find out what works here, and what is in the way",
		Long: `Find out whether Magpie can do its work in the cluster: the way to the API server, each right that is needed, the
Pod Security level, the pod network. Nothing is created. With --target an agent is started beside one of its pods, to look
at the node: image pull, the way to the agent, kernel, features, meshes, and how each port would be taken; it leaves again.

The exit status is 0 unless a line says fail.`,
		Example: `  magpie doctor -n dev
  magpie doctor -n dev --target deploy/ems
  magpie doctor -n dev --target deploy/ems -o json`,
		Args: cobra.NoArgs,
		RunE: d.run,
	}
	d.aim.register(cmd)
	d.aim.complete(cmd, kubectl)
	d.agent.register(cmd)
	d.output.register(cmd, "text", "json")
	return cmd
}

func (d *checkup) run(cmd *cobra.Command, _ []string) error {
	if err := d.output.check(); err != nil {
		return err
	}
	cfg := doctor.Config{Version: version}
	if err := d.resolve(cmd, &cfg); err != nil {
		return err
	}
	settings, err := d.agent.settings(cmd)
	if err != nil {
		return err
	}
	cfg.Agent = settings.Agent
	if cfg.Cluster, err = cluster.Connect(d.kubectl); err != nil {
		return err
	}
	return d.examine(cmd, cfg)
}

func (d *checkup) resolve(cmd *cobra.Command, cfg *doctor.Config) error {
	if !d.aim.given() {
		return nil
	}
	name, inCluster, err := d.aim.resolve(cmd)
	if err != nil {
		return err
	}
	if !inCluster {
		return usage("magpie exec says itself what is missing on this machine", "doctor is for clusters, and %s is on this machine", name)
	}
	t, err := cluster.ParseTarget(name)
	cfg.Target = &t
	return err
}

// examine prints each finding as it is known, so that a slow answer is seen to be one.
func (d *checkup) examine(cmd *cobra.Command, cfg doctor.Config) error {
	out := cmd.OutOrStdout()
	all, ill, hint := []doctor.Finding{}, false, ""
	doctor.Examine(cmd.Context(), cfg, func(f doctor.Finding) {
		all = append(all, f)
		ill = ill || f.Verdict == doctor.Fail
		if d.output.format == "text" {
			hint = printFinding(out, f, hint)
		}
	})
	var err error
	if d.output.format == "json" {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		err = enc.Encode(all)
	}
	if ill {
		return cmp.Or(err, error(ended(statusIll)))
	}
	return err
}

// printFinding leaves out the hint that was the last one printed: ten missing rights have one cure. It returns the hint.
func printFinding(out io.Writer, f doctor.Finding, last string) string {
	fmt.Fprintf(out, "%-5s %-13s %s\n", f.Verdict, f.Check, f.Text)
	if f.Hint == "" || f.Hint == last {
		return last
	}
	fmt.Fprintf(out, "%-19s hint: %s\n", "", f.Hint)
	return f.Hint
}
