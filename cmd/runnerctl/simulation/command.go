// Package simulation is runnerctl simulate: it takes workload and configurations from files, flags and
// Bitbucket, and prints what package simulate makes of them. It simulates nothing itself.
package simulation

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/cmd/internal/command"
	"bitbucket-runner-scaler/cmd/internal/exit"
	"bitbucket-runner-scaler/cmd/internal/flags"
	"bitbucket-runner-scaler/externalscaler/simulate"
	"bitbucket-runner-scaler/externalscaler/simulate/report"
	"bitbucket-runner-scaler/externalscaler/simulate/workload"
)

const simulateAbout = `simulate runs a workload on a virtual clock with the rules of the scaler, and reports for
each configuration how long steps wait for a runner and what the runners cost. It needs no
cluster, and changes nothing.

The workload is one of
  - a CSV file (--workload): a line per step with arrival, duration and labels, and
    optionally repository, pipeline, kind, step and after (steps of its pipeline before it);
  - made up (--synthetic);
  - the last --days of a repository or workspace at Bitbucket (--workspace), read with the
    credentials of the scaler: about two calls per pipeline, no more than --calls.
--save writes it as CSV.

Each -f is one configuration. Without -f the strategies are simulated with their defaults and
--max. Beside them are a model of Atlassian's runners-autoscaler, with its default interval of
600 s and the least recommended one of 120 s, and a clairvoyant scheduler, which nobody beats.

--recommend searches the settings with which the workload costs least while 95 % of its steps
wait no longer than --p95-wait, and prints a configuration.

Exit codes: 0 success; 1 a file has faults, or no setting that was tried keeps --p95-wait;
2 wrong command line, or something could not be read.`

// mostSteps bounds the steps of a workload that is made up.
const mostSteps = 500_000

// Program is the program that the command is part of.
type Program struct {
	// Bitbucket is where the past is read.
	Bitbucket Bitbucket
	// Lookup finds an environment variable.
	Lookup func(name string) (value string, ok bool)
	// Contents reads a file, or stdin if it is -.
	Contents func(file string, stdin io.Reader) ([]byte, error)
	// UntilInterrupted ends at a signal what run does.
	UntilInterrupted func(ctx context.Context, run func(context.Context) error) error
}

// Bitbucket has the flags for calls to Bitbucket.
type Bitbucket interface {
	// Define defines the flags, and Check adds what is wrong with them to the set's faults.
	Define(c *cobra.Command, set *flags.Set)
	Check(set *flags.Set)
	// Scope is whose past is read; zero if none is.
	Scope() bitbucket.Scope
	// Open returns a client with the credentials that the flags name.
	Open() (*bitbucket.Client, error)
}

// comparison are the flags of the command.
type comparison struct {
	Program
	output            string
	files             []string
	load, synthetic   string
	save, plot, boot  string
	labels            string
	steps, days, seed int
	calls, max        int
	price             float64
	compare           bool
	recommend         bool
	p95               time.Duration
	evaluations       int
	options           simulate.Options
	form              string // of the plot
}

// Command returns the command.
func Command(p Program) *cobra.Command {
	c := &cobra.Command{
		Use:   "simulate [-f FILE]... (--workload FILE | --synthetic SHAPE | --workspace SLUG) [flags]",
		Short: "Try settings on a workload: how long steps wait, and what the runners cost",
		Long:  simulateAbout,
		Example: `  runnerctl simulate --synthetic day --steps 2000
  runnerctl simulate -f runners_config.yaml --workload steps.csv --boot 20s-60s --plot comparison.svg
  runnerctl simulate --workspace acme --repository app --days 7 --save app.csv
  runnerctl simulate -f runners_config.yaml --workload app.csv --recommend --p95-wait 30s`,
	}
	f := &comparison{Program: p, options: simulate.Defaults(), compare: true}
	set := command.Flags(c, "RUNNERCTL", p.Lookup)
	f.define(c, set)
	_ = c.MarkFlagFilename("filename", "yaml", "yml", "json") // these fail for an unknown flag
	_ = c.MarkFlagFilename("workload", "csv")
	_ = c.MarkFlagFilename("save", "csv")
	_ = c.MarkFlagFilename("plot", "svg", "png")
	c.RunE = func(c *cobra.Command, args []string) error {
		set.Read()
		command.CheckEnvironment(c, set)
		set.NoArguments(args)
		f.check(set)
		if err := set.Err(); err != nil {
			return err
		}
		return p.UntilInterrupted(c.Context(), func(ctx context.Context) error {
			return f.run(ctx, c.InOrStdin(), c.OutOrStdout(), c.ErrOrStderr())
		})
	}
	return c
}

func (f *comparison) define(c *cobra.Command, set *flags.Set) {
	f.Bitbucket.Define(c, set)
	set.Choice(&f.output, "output", "o", "table", "form of the results", "table", "json", "markdown")
	set.StringArrayVarP(&f.files, "filename", "f", nil, "configuration `file` to simulate, - for stdin; may be repeated")
	set.Int(&f.max, "max", 40, 1, "most runners of each group, without -f")
	set.StringVar(&f.load, "workload", "", "CSV `file` with the workload, - for stdin")
	shapes := make([]string, 0, len(workload.Shapes())+1)
	for _, shape := range workload.Shapes() {
		shapes = append(shapes, string(shape))
	}
	set.Choice(&f.synthetic, "synthetic", "", "", "make up a workload: spread over the day, in bursts, as on a working day, or with many tests after each build", shapes...)
	set.Int(&f.steps, "steps", 1000, 1, "steps per day of --synthetic")
	set.Int(&f.days, "days", 1, 1, "days of --synthetic or --workspace")
	set.StringVar(&f.labels, "labels", "builds", "comma-separated `labels` of the steps of --synthetic")
	set.Int(&f.seed, "seed", 1, 0, "what is left to chance: the same seed gives the same result")
	set.Int(&f.calls, "calls", 500, 1, "most calls to Bitbucket for --workspace; Bitbucket allows 1,000 per hour")
	set.StringVar(&f.save, "save", "", "write the workload as CSV to this `file`")
	set.StringVar(&f.plot, "plot", "", "draw the results into this `file`, which ends in .svg or .png")
	set.Bool(&f.compare, "compare", "", "simulate runners-autoscaler and the clairvoyant scheduler too")
	set.Float64Var(&f.price, "price-per-hour", 0, "price of a runner per hour, in any currency; 0 shows no cost")
	f.defineTimes(set)
	set.Bool(&f.recommend, "recommend", "", "search settings, and print the cheapest configuration within --p95-wait")
	set.Duration(&f.p95, "p95-wait", 30*time.Second, 0, "how long 95 % of the steps may wait at most, for --recommend")
	set.Int(&f.evaluations, "evaluations", 150, 1, "most settings that --recommend simulates")
}

// defineTimes defines the flags that say how long things take.
func (f *comparison) defineTimes(set *flags.Set) {
	o := &f.options
	set.StringVar(&f.boot, "boot", o.Boot.String(), "`duration` from the creation of a Job until its runner is online, or a range such as 20s-60s")
	set.Duration(&o.Stop, "stop", o.Stop, 0, "time until the Job of a runner that is told to end is complete")
	set.Duration(&o.KEDA, "keda-interval", o.KEDA, time.Second, "KEDA's polling interval")
	set.Duration(&o.List, "list-interval", o.List, time.Second, "time between two lists of runners, as --poll-interval of the scaler")
	set.Bool(&o.Webhooks, "webhooks", "", "webhooks tell the scaler of pipelines; without them it polls")
	set.Duration(&o.Webhook, "webhook-delay", o.Webhook, 0, "time from a pipeline's beginning until its webhook arrives")
	set.Duration(&o.Parse, "parse-delay", o.Parse, 0, "time that Bitbucket takes to parse a new pipeline")
	set.Duration(&o.Read, "read-delay", o.Read, 0, "time that the scaler takes to read a pipeline")
	set.Duration(&o.Assign, "assign-delay", o.Assign, 0, "time from Bitbucket's choice of a runner until the runner begins the step")
	set.Bool(&o.WaitOffline, "wait-offline", "", "a step that finds no runner online waits; Bitbucket documents that it fails")
}

// check adds what is wrong with the flags to the set's faults.
func (f *comparison) check(set *flags.Set) {
	f.Bitbucket.Check(set)
	var given []string
	for name, value := range map[string]string{"--workload": f.load, "--synthetic": f.synthetic, "--workspace": f.Bitbucket.Scope().Workspace} {
		if value != "" {
			given = append(given, name)
		}
	}
	if len(given) != 1 {
		set.Fault("workload: %d given, want one of --workload, --synthetic or --workspace", len(given))
	}
	stdin := 0
	for _, file := range append([]string{f.load}, f.files...) {
		if file == "-" {
			stdin++
		}
	}
	if stdin > 1 {
		set.Fault("--workload and --filename: want stdin for one file")
	}
	var err error
	if f.options.Boot, err = simulate.ParseSpan(f.boot); err != nil {
		set.Fault("--boot: %w", err)
	}
	if f.synthetic != "" && f.steps > mostSteps/max(1, f.days) {
		set.Fault("--steps: %d on %s, want at most %d altogether", f.steps, command.Count(f.days, "day"), mostSteps)
	}
	if f.price < 0 {
		set.Fault("--price-per-hour: %v, want at least 0", f.price)
	}
	if f.form = strings.TrimPrefix(strings.ToLower(filepath.Ext(f.plot)), "."); f.plot != "" && f.form != report.SVG && f.form != report.PNG {
		set.Fault("--plot: %q, want a name that ends in .svg or .png", f.plot)
	}
	if f.recommend && len(f.files) > 1 {
		set.Fault("--filename: %d given, want one at most with --recommend", len(f.files))
	}
	if f.recommend && f.plot != "" {
		set.Fault("--plot: want it without --recommend")
	}
	f.options.Price, f.options.Seed = f.price, uint64(max(0, f.seed))
	if f.plot != "" {
		f.options.Samples = 240
	}
}

// run makes the workload and simulates it.
func (f *comparison) run(ctx context.Context, stdin io.Reader, stdout, stderr io.Writer) error {
	load, err := f.makeWorkload(ctx, stdin, stderr)
	if err != nil {
		return err
	}
	if load.Steps() == 0 {
		return exit.With(exit.Unclear, fmt.Errorf("simulate: %s: no steps that need a runner", load.Name))
	}
	if err := f.saveWorkload(load); err != nil {
		return exit.With(exit.Unclear, fmt.Errorf("simulate: --save: %w", err))
	}
	files, err := f.groups(load, stdin)
	if err != nil {
		return err
	}
	if f.recommend {
		return f.recommendFor(ctx, load, files, stdout, stderr)
	}
	result := report.Report{Workload: load.Name, Pipelines: len(load.Pipelines), Steps: load.Steps(), Start: load.Start, Price: f.price}
	for _, c := range f.configurations(files) {
		r, err := simulate.Run(ctx, load, c, f.options)
		if err != nil {
			return exit.With(exit.Unclear, err)
		}
		result.Results = append(result.Results, r)
	}
	return f.write(result, stdout, stderr)
}

// write writes the results.
func (f *comparison) write(r report.Report, stdout, stderr io.Writer) error {
	if f.plot != "" {
		if err := writeFile(f.plot, func(to io.Writer) error { return r.Draw(to, f.form) }); err != nil {
			return exit.With(exit.Unclear, fmt.Errorf("simulate: --plot: %w", err))
		}
	}
	if _, err := fmt.Fprintf(stderr, "%s: %s, %s\n", r.Workload, command.Count(r.Pipelines, "pipeline"), command.Count(r.Steps, "step")); err != nil {
		return exit.With(exit.Unclear, err)
	}
	for _, result := range r.Results {
		for _, note := range notes(result) {
			if _, err := fmt.Fprintf(stderr, "note: %s: %s\n", result.Name, note); err != nil {
				return exit.With(exit.Unclear, err)
			}
		}
	}
	write := map[string]func(io.Writer) error{"table": r.WriteTable, "json": r.WriteJSON, "markdown": r.WriteMarkdown}[f.output]
	if err := write(stdout); err != nil {
		return exit.With(exit.Unclear, fmt.Errorf("simulate: write: %w", err))
	}
	return nil
}

// notes say what is wrong with a configuration.
func notes(r simulate.Result) (notes []string) {
	if r.Unserved > 0 {
		notes = append(notes, fmt.Sprintf("%s failed because no group serves the labels", command.Count(r.Unserved, "step")))
	}
	if r.CallsPerHour > bitbucket.DefaultBudget {
		notes = append(notes, fmt.Sprintf("up to %d calls to Bitbucket in an hour, and %d are allowed; the scaler would read less often, so that some steps wait longer", r.CallsPerHour, bitbucket.DefaultBudget))
	}
	return notes
}

// writeFile writes a file. If that fails, what was there stays.
func writeFile(path string, write func(io.Writer) error) (err error) {
	temporary, err := os.CreateTemp(filepath.Dir(path), ".simulate-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(temporary.Name()) }()
	if err := errors.Join(write(temporary), temporary.Chmod(0o644), temporary.Close()); err != nil {
		return err
	}
	return os.Rename(temporary.Name(), path)
}
