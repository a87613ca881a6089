package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"bitbucket-runner-scaler/cmd/internal/command"
)

// probePause is the time between two requests of a probe.
const probePause = time.Second

// newProbe returns the command probe, which the chart's test runs: the image has no other
// program that could send a request.
func newProbe(lookup func(string) (string, bool)) *cobra.Command {
	timeout := time.Minute
	c := &cobra.Command{
		Use:   "probe [flags] URL",
		Short: "Wait until a URL of a scaler answers",
		Long:  "probe requests URL once per second until the answer is 200 OK. If there is none within --timeout, it fails with the last reason.",
		Example: "  scaler probe http://bitbucket-runner-scaler:8080/readyz\n" +
			"  scaler probe --timeout 5s http://localhost:8080/readyz",
	}
	set := command.Flags(c, "SCALER", lookup)
	set.Duration(&timeout, "timeout", timeout, time.Nanosecond, "how long to wait for the answer")
	c.RunE = func(c *cobra.Command, args []string) error {
		set.Read()
		command.CheckEnvironment(c, set)
		if len(args) != 1 {
			set.Add(fmt.Errorf("arguments: %q, want one URL", args))
		} else if !isWebURL(args[0]) {
			set.Add(fmt.Errorf("arguments: %q, want an http or https URL, such as http://bitbucket-runner-scaler:8080/readyz", args[0]))
		}
		if err := set.Err(); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(c.Context(), timeout)
		defer cancel()
		if err := probe(ctx, args[0], probePause); err != nil {
			return fmt.Errorf("no good answer within %s: %w", timeout, err)
		}
		_, err := fmt.Fprintf(c.OutOrStdout(), "%s answers\n", args[0])
		return err
	}
	return c
}

// probe requests a URL until the answer is 200 OK, with a pause between two requests. When
// ctx ends, it returns why the last complete request failed.
func probe(ctx context.Context, url string, pause time.Duration) error {
	var last error
	for {
		err := answers(ctx, url)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil || last == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return last
		case <-time.After(pause):
		}
	}
}

// answers sends one request, and returns an error if the answer is not 200 OK.
func answers(ctx context.Context, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(answer.Body, 200)) // empty if it cannot be read
		return fmt.Errorf("GET %s: %s: %q", url, answer.Status, body)
	}
	return nil
}
