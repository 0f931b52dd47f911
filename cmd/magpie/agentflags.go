package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/magpie-k8s/magpie/client/config"
)

// agentFlags say how agents are started in a cluster. They are stronger than the environment, which is stronger than
// the settings file.
type agentFlags struct {
	file      string
	image     string
	namespace string
	ephemeral bool
}

// register adds the flags of a command that starts agents.
func (a *agentFlags) register(cmd *cobra.Command) {
	a.registerWhere(cmd)
	flags := cmd.Flags()
	flags.StringVar(&a.image, "agent-image", "", "`image` of the agent (else $MAGPIE_AGENT_IMAGE, else that of this version)")
	flags.BoolVar(&a.ephemeral, "ephemeral", false, "start the agent as an ephemeral container of the pod, not as a Job beside it")
}

// registerWhere adds the flags of a command that only looks for agents.
func (a *agentFlags) registerWhere(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&a.namespace, "agent-namespace", "", "`namespace` in which agents are started (else the pod's own)")
	flags.StringVar(&a.file, "config", "", "settings `file` (else $MAGPIE_CONFIG, else .magpie/magpie.yaml here or in a folder above)")
}

// settings joins file, environment and flags.
func (a *agentFlags) settings(cmd *cobra.Command) (config.Config, error) {
	folder, err := os.Getwd()
	if err != nil {
		return config.Config{}, err
	}
	c, err := config.Load(a.file, folder)
	if err != nil {
		return config.Config{}, usage(hintOf(err), "%w", err)
	}
	if cmd.Flags().Changed("agent-image") {
		c.Agent.Image = a.image
	}
	if cmd.Flags().Changed("agent-namespace") {
		c.Agent.Namespace = a.namespace
	}
	if cmd.Flags().Changed("ephemeral") {
		c.Agent.Ephemeral = a.ephemeral
	}
	if err := c.Agent.Check(); err != nil {
		return config.Config{}, usage(hintOf(err), "%w", err)
	}
	return c, nil
}
