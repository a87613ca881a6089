package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"bitbucket-runner-scaler/bitbucket/pipelines"
	"bitbucket-runner-scaler/cmd/internal/command"
	"bitbucket-runner-scaler/cmd/internal/exit"
	"bitbucket-runner-scaler/cmd/internal/flags"
	"bitbucket-runner-scaler/externalscaler/runnergroup/spelling"
	"bitbucket-runner-scaler/jobfactory"
	"bitbucket-runner-scaler/jobfactory/config"
)

// pipelinesFlags are the flags of runnerctl pipelines.
type pipelinesFlags struct {
	file, groups, output string
	selectors, done      []string
	parsed               []pipelines.Selector
}

func pipelinesCommand(lookup lookup) *cobra.Command {
	c := &cobra.Command{
		Use:   "pipelines -f FILE [--selector TYPE:PATTERN] [--done NAME]... [--groups FILE] [flags]",
		Short: "Show what the steps of a bitbucket-pipelines.yml ask for, and who serves them",
		Long: `pipelines shows the steps of a bitbucket-pipelines.yml: the labels that each asks
for, after which steps it comes and what else holds it back, and which of them would
wait for a self-hosted runner now. With --groups it names the runner group that serves
each step, or the nearest group if none does. It reads files only.

Pipelines that the file imports are read from the directory of the file, which should
be the root of the repository. A pipeline that is imported from another repository is
unknown.

Exit codes: 0 all is well, 1 the file has faults, or no group of --groups serves a
step, 2 wrong command line, a file could not be read, or with --groups something is
unknown.`,
		Example: `  runnerctl pipelines -f bitbucket-pipelines.yml
  runnerctl pipelines -f bitbucket-pipelines.yml --selector branches:main --done Build
  runnerctl pipelines -f bitbucket-pipelines.yml --groups runners_config.yaml -o json`,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	set := command.Flags(c, "", nil)
	f := &pipelinesFlags{}
	f.define(set)
	completeFiles(c, "filename", "groups")
	c.RunE = func(c *cobra.Command, args []string) error {
		set.Read()
		set.NoArguments(args)
		f.check(set)
		if err := set.Err(); err != nil {
			return err
		}
		return f.run(c.InOrStdin(), c.OutOrStdout(), c.ErrOrStderr(), styleOf(c.OutOrStdout(), lookup))
	}
	return c
}

func (f *pipelinesFlags) define(set *flags.Set) {
	set.StringVarP(&f.file, "filename", "f", "", "pipelines `file`, - for stdin")
	set.StringArrayVar(&f.selectors, "selector", nil, "`type:pattern` of the pipeline to show, such as branches:main, custom:nightly or default; may be repeated (default: all)")
	set.StringArrayVar(&f.done, "done", nil, "`name` of a step to take as completed: the first unfinished one of that name, \"Step N\" for the step at place N if it has no name; may be repeated")
	set.StringVar(&f.groups, "groups", "", "configuration `file` with the runner groups that should serve the steps")
	set.Choice(&f.output, "output", "o", "text", "form of the output; json prints one object per line and pipeline", "text", "json")
}

func (f *pipelinesFlags) check(set *flags.Set) {
	if f.file == "" {
		set.Fault("--filename: missing, want -f FILE, or -f - for stdin")
	}
	if f.file == "-" && f.groups == "-" {
		set.Fault("--filename and --groups: want stdin for one of them")
	}
	for _, given := range f.selectors {
		selector, err := pipelines.ParseSelector(given)
		if err != nil {
			set.Fault("--selector: %w", err)
		}
		f.parsed = append(f.parsed, selector)
	}
}

func (f *pipelinesFlags) run(stdin io.Reader, stdout, stderr io.Writer, style style) error {
	file, faults, err := f.read(stdin)
	if err != nil {
		return exit.With(exit.Unclear, fmt.Errorf("pipelines: %w", err))
	}
	if file == nil {
		return fmt.Errorf("pipelines %s:\n%w", f.file, faults)
	}
	groups, err := f.readGroups(stdin)
	if err != nil {
		return err
	}
	shown := f.choose(file)
	states, err := f.mark(shown)
	if err != nil {
		return exit.With(exit.Unclear, fmt.Errorf("pipelines: %w", err))
	}
	seen := &outlook{groups: groups}
	for i, p := range shown {
		view := seen.view(p, states[i])
		if f.output == "json" {
			err = writeLine(stdout, view)
		} else {
			err = writePipeline(stdout, p, states[i], view, seen, i > 0, style)
		}
		if err != nil {
			return exit.With(exit.Unclear, fmt.Errorf("pipelines: write: %w", err))
		}
	}
	if faults != nil {
		return fmt.Errorf("pipelines %s:\n%w", f.file, faults)
	}
	return f.verdict(stderr, file, shown, seen)
}

// verdict returns the error that decides the exit code, or prints the summary.
func (f *pipelinesFlags) verdict(stderr io.Writer, file *pipelines.File, shown []pipelines.Pipeline, seen *outlook) error {
	has := file.Selectors()
	names := make([]string, len(has))
	for i, selector := range has {
		names[i] = selector.String()
	}
	for _, p := range shown {
		if !slices.Contains(has, p.Selector) {
			return exit.With(exit.Unclear, fmt.Errorf("pipelines: --selector: %s has no pipeline %s, want %s", f.file, p.Selector, flags.List(names)))
		}
	}
	looked := count(len(shown), "pipeline") + ", " + count(seen.steps, "step")
	switch {
	case f.groups != "" && seen.unserved > 0:
		return exit.With(exit.Failed, fmt.Errorf("pipelines: %s: no group serves %s", looked, count(seen.unserved, "step")))
	case f.groups != "" && seen.unknown > 0:
		return exit.With(exit.Unclear, fmt.Errorf("pipelines: %s: %d unknown", looked, seen.unknown))
	}
	_, err := fmt.Fprintf(stderr, "%s: %d would wait for a runner\n", looked, seen.waiting)
	return err
}

// read reads the file and those that it imports from. The faults are those of the files.
func (f *pipelinesFlags) read(stdin io.Reader) (file *pipelines.File, faults, err error) {
	data, err := contents(f.file, stdin)
	if err != nil {
		return nil, nil, err
	}
	file, faults = pipelines.Parse(data)
	if file == nil || f.file == "-" {
		return file, faults, nil
	}
	for _, path := range file.Imports() {
		data, err := inDirectory(filepath.Dir(f.file), path)
		if errors.Is(err, os.ErrNotExist) {
			continue // the pipeline is unknown, and says why
		}
		if err != nil {
			return nil, nil, err
		}
		imported, err := pipelines.Parse(data)
		if err != nil {
			faults = errors.Join(faults, fmt.Errorf("%s:\n%w", path, err))
		}
		file = file.With(path, imported)
	}
	return file, faults, nil
}

// inDirectory reads a file that must be in a directory or below.
func inDirectory(dir, path string) ([]byte, error) {
	opened, err := os.OpenInRoot(dir, filepath.FromSlash(path))
	if err != nil {
		return nil, err
	}
	defer func() { _ = opened.Close() }()
	return io.ReadAll(io.LimitReader(opened, maxInput))
}

// readGroups reads the runner groups in the order in which they serve a step: the one with the
// fewest labels first, then those of a repository, then by name.
func (f *pipelinesFlags) readGroups(stdin io.Reader) ([]jobfactory.RunnerGroup, error) {
	if f.groups == "" {
		return nil, nil
	}
	data, err := contents(f.groups, stdin)
	if err != nil {
		return nil, exit.With(exit.Unclear, fmt.Errorf("pipelines: %w", err))
	}
	content, err := config.Read(data)
	if err != nil {
		return nil, fmt.Errorf("pipelines %s:\n%w", f.groups, err)
	}
	groups := content.Groups
	slices.SortStableFunc(groups, func(x, y jobfactory.RunnerGroup) int {
		byScope := 0
		if ofRepository := x.Group.Repository != ""; ofRepository != (y.Group.Repository != "") {
			byScope = 1
			if ofRepository {
				byScope = -1
			}
		}
		return cmp.Or(len(x.Group.Labels)-len(y.Group.Labels), byScope, strings.Compare(groupName(x), groupName(y)))
	})
	return groups, nil
}

// choose returns the pipelines to show. A selector that the file does not have is taken as the
// name of a branch, tag or source branch.
func (f *pipelinesFlags) choose(file *pipelines.File) []pipelines.Pipeline {
	selectors := f.parsed
	if len(selectors) == 0 {
		selectors = file.Selectors()
	}
	shown := make([]pipelines.Pipeline, len(selectors))
	for i, selector := range selectors {
		if !slices.Contains(file.Selectors(), selector) {
			if started, ok := file.For(selector.Type, selector.Pattern); ok {
				selector = started
			}
		}
		shown[i] = file.Select(selector)
	}
	return shown
}

// mark returns the states of the pipelines' steps. Each name must be one of an unfinished step
// of at least one of them.
func (f *pipelinesFlags) mark(shown []pipelines.Pipeline) ([][]pipelines.State, error) {
	states := make([][]pipelines.State, len(shown))
	unknown := false
	var titles []string
	for i, p := range shown {
		states[i] = make([]pipelines.State, len(p.Steps))
		unknown = unknown || p.Unknown != ""
		for _, step := range p.Steps {
			titles = append(titles, step.Title())
		}
	}
	for _, name := range f.done {
		found := unknown
		for i, p := range shown {
			at := slices.IndexFunc(p.Steps, func(s pipelines.Step) bool { return s.Title() == name && states[i][s.Index] != pipelines.Done() })
			if at >= 0 {
				states[i][at], found = pipelines.Done(), true
			}
		}
		if !found {
			hint := ""
			if meant := spelling.Nearest(name, titles); meant != "" && meant != name {
				hint = fmt.Sprintf(", did you mean %q?", meant)
			}
			return nil, fmt.Errorf("--done: no unfinished step is called %q%s", name, hint)
		}
	}
	return states, nil
}
