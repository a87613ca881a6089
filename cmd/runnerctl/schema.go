package main

import (
	"github.com/spf13/cobra"

	"bitbucket-runner-scaler/cmd/internal/command"
	"bitbucket-runner-scaler/jobfactory/config"
)

func schemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of runners_config.yaml, for editors",
		Long: "schema prints the JSON Schema of runners_config.yaml. Editors use it to complete keys and to mark mistakes.\n" +
			"It goes into a file that the first line of the configuration names, see the example.",
		Example: `  runnerctl schema >runners_config.schema.json
  sed -i '1i # yaml-language-server: $schema=runners_config.schema.json' runners_config.yaml`,
		Args:              command.NoArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, _ []string) error {
			data, err := config.Schema()
			if err != nil {
				return err
			}
			_, err = c.OutOrStdout().Write(data)
			return err
		},
	}
}
