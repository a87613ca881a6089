// Command runnerctl is for those who configure and watch runner groups. It reads files and
// writes files; check, webhooks and simulate call Bitbucket, and lint --kubeconfig reads a cluster. Package
// cluster has the commands that look at a running installation.
package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"bitbucket-runner-scaler/cmd/internal/command"
	"bitbucket-runner-scaler/cmd/runnerctl/cluster"
)

// lookup finds an environment variable.
type lookup = func(name string) (value string, ok bool)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.LookupEnv, os.Stdin, os.Stdout, os.Stderr))
}

// run executes one command and returns the exit code.
func run(ctx context.Context, args []string, lookup lookup, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRoot(lookup)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	return command.Run(ctx, root, args)
}

const about = `runnerctl writes and checks the configuration of runner groups.

Exit codes of all commands:
  0  success, nothing found
  1  findings, or a failure
  2  wrong command line, or the answer could not be determined

Colours appear on terminals only, and never if NO_COLOR is set.`

// pluginName is how users call runnerctl that is installed as kubectl-bitbucket_runners.
const pluginName = "kubectl bitbucket-runners"

// further are commands that only some builds have.
var further []func() *cobra.Command

func newRoot(lookup lookup) *cobra.Command {
	root := &cobra.Command{
		Use:   "runnerctl",
		Short: "Write and check the configuration of runner groups",
		Long:  about,
		Example: `  runnerctl lint runners_config.yaml
  runnerctl render -f runners_config.yaml -o groups && kubectl apply -k groups
  runnerctl check credentials --credentials-dir DIR --workspace acme`,
	}
	if strings.HasPrefix(filepath.Base(os.Args[0]), "kubectl-") { // kubectl runs it as its plugin
		root.Annotations = map[string]string{cobra.CommandDisplayNameAnnotation: pluginName}
	}
	command.Group(root, built().Version)
	root.AddCommand(renderCommand(), lintCommand(lookup), pipelinesCommand(lookup), simulateCommand(lookup), checkCommand(lookup), webhooksCommand(lookup), schemaCommand(), versionCommand())
	root.AddCommand(cluster.Commands(cluster.Settings{
		Lookup: lookup, UntilInterrupted: untilInterrupted,
		Paint: func(to io.Writer) cluster.Painter { return styleOf(to, lookup) },
	})...)
	for _, extra := range further {
		root.AddCommand(extra())
	}
	return root
}
