package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"

	"bitbucket-runner-scaler/jobfactory/lint"
)

// liveTimeout bounds each call to the API server.
const liveTimeout = 30 * time.Second

type lintFlags struct {
	output, failOn, kubeconfig, context, namespace string
	all, rules                                     bool
	files                                          []string
	options                                        lint.Options
}

func lintCommand(args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	f, err := parseLint(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return err
	}
	if err != nil {
		return &exitError{fmt.Errorf("lint: %w", err), exitUnclear}
	}
	if f.rules {
		return printRules(stdout, f.output)
	}
	findings, err := lintAll(f, stdin)
	if err != nil {
		return &exitError{fmt.Errorf("lint: %w", err), exitUnclear}
	}
	switch f.output {
	case "json":
		err = lint.JSON(stdout, findings)
	case "sarif":
		err = lint.SARIF(stdout, version, findings)
	default:
		err = lint.Text(stdout, findings)
	}
	if err != nil {
		return &exitError{fmt.Errorf("lint: write: %w", err), exitUnclear}
	}
	count := 0
	for _, finding := range findings {
		if finding.Severity == lint.Error || f.failOn == string(lint.Warning) {
			count++
		}
	}
	if count > 0 {
		return &exitError{fmt.Errorf("lint: %d findings at or above %s", count, f.failOn), exitWrong}
	}
	return nil
}

func parseLint(args []string, stderr io.Writer) (lintFlags, error) {
	f := lintFlags{options: lint.DefaultOptions()}
	flags := flag.NewFlagSet("runnerctl lint", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		_, _ = fmt.Fprint(stderr, "Usage: runnerctl lint [FLAGS] [FILE…]   files of configuration or manifests, folders of them, - for stdin\n"+
			"Exit code: 0 nothing at or above --fail-on, 1 findings, 2 something could not be read\n\n")
		flags.PrintDefaults()
	}
	flags.StringVar(&f.output, "o", "text", "`form`: text, json or sarif")
	flags.StringVar(&f.failOn, "fail-on", "error", "lowest `severity` that fails: error or warning")
	flags.BoolVar(&f.rules, "rules", false, "print the rules")
	flags.StringVar(&f.kubeconfig, "kubeconfig", "", "check the ScaledJobs of the cluster of this `file` as well, and whether its nodes can hold the pods")
	flags.StringVar(&f.context, "context", "", "`context` of the kubeconfig; its current one by default")
	flags.StringVar(&f.namespace, "n", "", "`namespace` of the cluster; the context's by default")
	flags.BoolVar(&f.all, "A", false, "all namespaces of the cluster")
	flags.StringVar(&f.options.CredentialsDir, "credentials-dir", "", "`directory` with one folder a credentials set, as the scaler has it")
	flags.DurationVar(&f.options.LongestStep, "longest-step", f.options.LongestStep, "how long a step may take")
	flags.DurationVar(&f.options.PollInterval, "poll-interval", f.options.PollInterval, "the scaler's --poll-interval, at least 10s")
	flags.DurationVar(&f.options.EphemeralLife, "ephemeral-life", f.options.EphemeralLife, "how long an ephemeral runner is taken to live, for the hourly budget")
	flags.IntVar(&f.options.HourlyBudget, "hourly-budget", f.options.HourlyBudget, "`calls` an hour that a credentials set has, its reserve taken off")
	if err := flags.Parse(args); err != nil {
		return f, err
	}
	f.files = flags.Args()
	return f, f.validate()
}

func (f lintFlags) validate() error {
	var faults []error
	add := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if !slices.Contains([]string{"text", "json", "sarif"}, f.output) {
		add("-o: %q, want text, json or sarif", f.output)
	}
	if f.failOn != "error" && f.failOn != "warning" {
		add("--fail-on: %q, want error or warning", f.failOn)
	}
	if f.options.PollInterval < 10*time.Second {
		add("--poll-interval: %s, want at least 10s", f.options.PollInterval)
	}
	if f.options.EphemeralLife <= 0 {
		add("--ephemeral-life: %s, want more than 0s", f.options.EphemeralLife)
	}
	if f.options.HourlyBudget <= 0 {
		add("--hourly-budget: %d, want more than 0", f.options.HourlyBudget)
	}
	if f.kubeconfig == "" && (f.context != "" || f.namespace != "" || f.all) {
		add("--context, -n and -A: want --kubeconfig too")
	}
	if f.namespace != "" && f.all {
		add("-n and -A: want one of them")
	}
	if len(f.files) == 0 && f.kubeconfig == "" && !f.rules {
		add("want FILE or --kubeconfig: %w", errUsage)
	}
	return errors.Join(faults...)
}

func lintAll(f lintFlags, stdin io.Reader) ([]lint.Finding, error) {
	input := &lint.Input{}
	var faults []error
	for _, given := range f.files {
		files, err := manifestsIn(given)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		for _, file := range files {
			data, err := read(file, stdin)
			if err != nil {
				faults = append(faults, err)
				continue
			}
			input.Read(file, data)
		}
	}
	if f.kubeconfig != "" {
		if err := live(input, &f); err != nil {
			faults = append(faults, err)
		}
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return lint.Check(input, f.options), nil
}

// manifestsIn are the YAML and JSON files in and below a folder, or the file itself.
func manifestsIn(given string) ([]string, error) {
	info, err := os.Stat(given)
	if given == "-" || err != nil || !info.IsDir() {
		return []string{given}, nil //nolint:nilerr // whoever reads it says why it cannot be read
	}
	var files []string
	err = filepath.WalkDir(given, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() && slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(path)) {
			files = append(files, path)
		}
		return err
	})
	if err == nil && len(files) == 0 {
		err = fmt.Errorf("%s: no file that ends in .yaml, .yml or .json", given)
	}
	return files, err
}

func live(input *lint.Input, f *lintFlags) error {
	loaded := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		&clientcmd.ClientConfigLoadingRules{ExplicitPath: f.kubeconfig}, &clientcmd.ConfigOverrides{CurrentContext: f.context})
	config, err := loaded.ClientConfig()
	if err != nil {
		return fmt.Errorf("--kubeconfig %s: %w", f.kubeconfig, err)
	}
	config.Timeout = liveTimeout
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("--kubeconfig %s: %w", f.kubeconfig, err)
	}
	namespace := f.namespace
	if namespace == "" && !f.all {
		if namespace, _, err = loaded.Namespace(); err != nil {
			return fmt.Errorf("--kubeconfig %s: %w", f.kubeconfig, err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*liveTimeout)
	defer cancel()
	if err := input.Live(ctx, client, namespace); err != nil {
		return err
	}
	f.options.Nodes, err = lint.Nodes(ctx, client)
	return err
}

func printRules(stdout io.Writer, output string) error {
	rules := lint.Rules()
	if output == "json" {
		return lint.JSONRules(stdout, rules)
	}
	table := tabwriter.NewWriter(stdout, 0, 8, 2, ' ', 0)
	for _, r := range rules {
		if _, err := fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", r.ID, r.Severity, r.Finds, r.Remedy); err != nil {
			return err
		}
	}
	return table.Flush()
}
