package main

import (
	"fmt"
	"io"

	"bitbucket-runner-scaler/jobfactory/config"
)

func schema(args []string, stdout io.Writer) error {
	if len(args) > 0 {
		return fmt.Errorf("schema: want no arguments, given %q: %w", args, errUsage)
	}
	data, err := config.Schema()
	if err != nil {
		return err
	}
	_, err = stdout.Write(data)
	return err
}
