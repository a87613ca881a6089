package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"

	"bitbucket-runner-scaler/cmd/internal/command"
	"bitbucket-runner-scaler/cmd/internal/exit"
	"bitbucket-runner-scaler/cmd/internal/flags"
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

func lintCommand(lookup lookup) *cobra.Command {
	c := &cobra.Command{
		Use:   "lint [-f] FILE... [flags]",
		Short: "Find what is wrong or dangerous in configuration files, manifests and clusters",
		Long: `lint finds what is wrong or dangerous in configuration files, in manifests, in
folders of them, and, with --kubeconfig, in the ScaledJobs of a cluster. - is stdin.
--rules prints what it looks for.

Exit codes: 0 nothing at or above --fail-on, 1 findings, 2 wrong command line or
something could not be read.`,
		Example: `  runnerctl lint runners_config.yaml
  runnerctl lint -f deploy -f runners_config.yaml --fail-on warning
  runnerctl lint --kubeconfig ~/.kube/config -A -o sarif >findings.sarif
  runnerctl lint --rules`,
	}
	f := &lintFlags{options: lint.DefaultOptions()}
	set := command.Flags(c, "", nil)
	f.define(set)
	completeFiles(c, "filename", "kubeconfig")
	_ = c.MarkFlagDirname("credentials-dir") // fails for an unknown flag
	c.RunE = func(c *cobra.Command, args []string) error {
		set.Read()
		f.files = append(f.files, args...)
		f.check(set)
		if err := set.Err(); err != nil {
			return err
		}
		if f.rules {
			return printRules(c.OutOrStdout(), f.output)
		}
		return f.run(c.Context(), c.InOrStdin(), c.OutOrStdout(), c.ErrOrStderr(), styleOf(c.OutOrStdout(), lookup))
	}
	return c
}

func (f *lintFlags) define(set *flags.Set) {
	set.StringArrayVarP(&f.files, "filename", "f", nil, "`file` or folder of configuration or manifests, - for stdin; may be repeated, and may be given without -f")
	set.Choice(&f.output, "output", "o", "text", "form of the findings", "text", "json", "sarif")
	set.Choice(&f.failOn, "fail-on", "", "error", "lowest severity that fails", "error", "warning")
	set.BoolVar(&f.rules, "rules", false, "print the rules")
	set.StringVar(&f.kubeconfig, "kubeconfig", "", "`file` of the cluster whose ScaledJobs to check too, and whether its nodes can hold the pods")
	set.StringVar(&f.context, "context", "", "`name` of the kubeconfig's context (default: its current one)")
	set.StringVarP(&f.namespace, "namespace", "n", "", "`namespace` of the cluster (default: the context's)")
	set.BoolVarP(&f.all, "all-namespaces", "A", false, "all namespaces of the cluster")
	set.StringVar(&f.options.CredentialsDir, "credentials-dir", "", "`directory` with one folder per credentials set, as the scaler has it")
	set.Duration(&f.options.LongestStep, "longest-step", f.options.LongestStep, 0, "how long a step may take")
	set.Duration(&f.options.PollInterval, "poll-interval", f.options.PollInterval, time.Nanosecond, "the scaler's --poll-interval, at least 10s")
	set.Duration(&f.options.EphemeralLife, "ephemeral-life", f.options.EphemeralLife, time.Nanosecond, "how long an ephemeral runner is assumed to live, for the hourly budget")
	set.Int(&f.options.HourlyBudget, "hourly-budget", f.options.HourlyBudget, 1, "calls per hour that a credentials set may make, as the scaler's --hourly-budget")
}

func (f *lintFlags) check(set *flags.Set) {
	if f.options.PollInterval < 10*time.Second {
		set.Fault("--poll-interval: %s, want at least 10s", f.options.PollInterval)
	}
	if f.kubeconfig == "" && (f.context != "" || f.namespace != "" || f.all) {
		set.Fault("--context, --namespace and --all-namespaces: want --kubeconfig too")
	}
	if f.namespace != "" && f.all {
		set.Fault("--namespace and --all-namespaces: want one of them")
	}
	if len(f.files) == 0 && f.kubeconfig == "" && !f.rules {
		set.Fault("nothing to check, want FILE or --kubeconfig")
	}
}

func (f *lintFlags) run(ctx context.Context, stdin io.Reader, stdout, stderr io.Writer, style style) error {
	findings, looked, groups, err := f.look(ctx, stdin)
	if err != nil {
		return exit.With(exit.Unclear, fmt.Errorf("lint: %w", err))
	}
	switch f.output {
	case "json":
		err = lint.JSON(stdout, findings)
	case "sarif":
		err = lint.SARIF(stdout, built().Version, findings)
	default:
		err = writeFindingLines(stdout, findings, style)
	}
	if err != nil {
		return exit.With(exit.Unclear, fmt.Errorf("lint: write: %w", err))
	}
	faults, warnings := 0, 0
	for _, finding := range findings {
		if finding.Severity == lint.Error {
			faults++
		} else {
			warnings++
		}
	}
	found := "no findings"
	if faults+warnings > 0 {
		found = count(faults, "error") + ", " + count(warnings, "warning")
	}
	if faults > 0 || warnings > 0 && f.failOn == string(lint.Warning) {
		return exit.With(exit.Failed, fmt.Errorf("lint: %s in %s", found, looked))
	}
	_, err = fmt.Fprintf(stderr, "%s, %s: %s\n", looked, count(groups, "group"), found)
	return err
}

// writeFindingLines is lint.Text with the severities painted.
func writeFindingLines(to io.Writer, findings []lint.Finding, style style) error {
	for _, finding := range findings {
		var line strings.Builder
		if err := lint.Text(&line, []lint.Finding{finding}); err != nil {
			return err
		}
		paint := style.warn
		if finding.Severity == lint.Error {
			paint = style.bad
		}
		severity := fmt.Sprintf(": %s: ", finding.Severity)
		painted := strings.Replace(line.String(), severity, ": "+paint(string(finding.Severity))+": ", 1)
		if _, err := io.WriteString(to, painted); err != nil {
			return err
		}
	}
	return nil
}

// look returns the findings, what it looked at, and the number of groups there.
func (f *lintFlags) look(ctx context.Context, stdin io.Reader) (findings []lint.Finding, looked string, groups int, err error) {
	input := &lint.Input{}
	var faults []error
	read := 0
	for _, given := range f.files {
		files, err := manifestsIn(given)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		for _, file := range files {
			data, err := contents(file, stdin)
			switch {
			case err != nil:
				faults = append(faults, err)
			case file == given:
				input.Read(file, data)
				read++
			case input.ReadFound(file, data):
				read++
			}
		}
	}
	if f.kubeconfig != "" {
		if err := f.live(ctx, input); err != nil {
			faults = append(faults, err)
		}
	}
	if len(faults) > 0 {
		return nil, "", 0, errors.Join(faults...)
	}
	switch looked = count(read, "file"); {
	case f.kubeconfig != "" && read == 0:
		looked = "the cluster"
	case f.kubeconfig != "":
		looked += " and the cluster"
	}
	return lint.Check(input, f.options), looked, input.Groups(), nil
}

// manifestsIn are the YAML and JSON files in and below a folder, or the file itself.
// Links are followed, and each file is named once. What is hidden is passed over: a
// mounted ConfigMap keeps its versions there.
func manifestsIn(given string) ([]string, error) {
	info, err := os.Stat(given)
	if given == "-" || err != nil || !info.IsDir() {
		return []string{given}, nil //nolint:nilerr // reading it reports why it cannot be read
	}
	w := walk{seen: map[string]bool{}}
	err = w.folder(given)
	return w.files, err
}

// walk collects the files of a folder.
type walk struct {
	files []string
	// seen has the files and folders without links.
	seen map[string]bool
}

func (w *walk) folder(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		kind := slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(path))
		link := entry.Type()&fs.ModeSymlink != 0
		if strings.HasPrefix(entry.Name(), ".") || !kind && !link && !entry.IsDir() {
			continue
		}
		info, err := os.Stat(path)
		if err != nil {
			if kind {
				return err
			}
			continue // a broken link to something else
		}
		resolved, err := filepath.EvalSymlinks(path)
		if err != nil || w.seen[resolved] {
			continue
		}
		w.seen[resolved] = true
		switch {
		case info.IsDir():
			if err := w.folder(path); err != nil {
				return err
			}
		case kind && info.Mode().IsRegular():
			w.files = append(w.files, path)
		}
	}
	return nil
}

// live takes the ScaledJobs and the nodes of the cluster into the input.
func (f *lintFlags) live(ctx context.Context, input *lint.Input) error {
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
	ctx, cancel := context.WithTimeout(ctx, 2*liveTimeout)
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
