package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/cmd/internal/exit"
	"bitbucket-runner-scaler/cmd/internal/flags"
	"bitbucket-runner-scaler/cmd/runnerctl/simulation"
	"bitbucket-runner-scaler/externalscaler/credentials"
)

func simulateCommand(lookup lookup) *cobra.Command {
	return simulation.Command(simulation.Program{
		Bitbucket: &past{remote{lookup: lookup}}, Lookup: lookup, Contents: contents, UntilInterrupted: untilInterrupted,
	})
}

// past has the flags for reading the pipelines of the past. It implements simulation.Bitbucket.
type past struct{ remote }

// Define implements simulation.Bitbucket.
func (p *past) Define(c *cobra.Command, set *flags.Set) {
	p.defineAccess(c, set)
	set.Lookup("workspace").Usage = "`slug` or {uuid} of a workspace whose last pipelines are the workload"
	set.Lookup("repository").Usage = "`slug` or {uuid} of a repository of the workspace, to read the pipelines of this one alone"
	set.StringVar(&p.set, "credentials", credentials.Default, "`name` of the credentials set that reads the pipelines of --workspace")
}

// Check implements simulation.Bitbucket.
func (p *past) Check(set *flags.Set) { p.check(set) }

// Scope implements simulation.Bitbucket.
func (p *past) Scope() bitbucket.Scope { return p.scope() }

// Open implements simulation.Bitbucket.
func (p *past) Open() (*bitbucket.Client, error) {
	sets, err := p.sets()
	if err != nil {
		return nil, err
	}
	chosen := sets[0]
	if chosen.Credentials.Kind() == "" {
		return nil, exit.With(exit.Unclear, fmt.Errorf("credentials set %s: %s", chosen.Name, strings.Join(chosen.Faults, "; ")))
	}
	return p.client(chosen)
}
