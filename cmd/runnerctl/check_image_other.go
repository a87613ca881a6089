//go:build !unix

package main

import (
	"errors"

	"github.com/spf13/cobra"

	"bitbucket-runner-scaler/cmd/internal/exit"
)

// imageCommand would run the programs of an image, of which this system has none.
func imageCommand(lookup) *cobra.Command {
	return &cobra.Command{
		Use: "image", Short: "Find out what a runner's image does (on Unix systems only)",
		Example: "  runnerctl check image --image REFERENCE",
		RunE: func(*cobra.Command, []string) error {
			return exit.With(exit.Unclear, errors.New("check image: works on Unix systems only, inside of the image"))
		},
	}
}
