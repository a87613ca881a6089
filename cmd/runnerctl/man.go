//go:build man

package main

import (
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"bitbucket-runner-scaler/cmd/internal/command"
)

// `make man` builds runnerctl with this command, so that others do not carry what
// writes man pages.
func init() { further = append(further, manCommand) }

func manCommand() *cobra.Command {
	return &cobra.Command{
		Use: "man DIR", Short: "Write man pages into DIR", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			b := built()
			header := &doc.GenManHeader{Section: "1", Source: "bitbucket-runner-scaler " + b.Version, Manual: "bitbucket-runner-scaler"}
			if when, err := time.Parse(time.RFC3339, b.Date); err == nil {
				header.Date = &when
			}
			c.Root().DisableAutoGenTag = true
			command.NameChoices(c.Root())
			return doc.GenManTree(c.Root(), header, args[0])
		},
	}
}
