package simulation

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/bitbucket/pipelines"
	"bitbucket-runner-scaler/cmd/internal/command"
	"bitbucket-runner-scaler/cmd/internal/exit"
	"bitbucket-runner-scaler/externalscaler/policy"
	"bitbucket-runner-scaler/externalscaler/runnergroup"
	"bitbucket-runner-scaler/externalscaler/simulate"
	"bitbucket-runner-scaler/externalscaler/simulate/past"
	"bitbucket-runner-scaler/externalscaler/simulate/workload"
	"bitbucket-runner-scaler/jobfactory"
	"bitbucket-runner-scaler/jobfactory/config"
)

// makeWorkload reads, makes up or fetches the workload.
func (f *comparison) makeWorkload(ctx context.Context, stdin io.Reader, stderr io.Writer) (workload.Workload, error) {
	switch {
	case f.synthetic != "":
		labels := strings.FieldsFunc(f.labels, func(r rune) bool { return r == ',' || r == ' ' })
		return workload.Synthetic{Shape: workload.Shape(f.synthetic), Steps: f.steps, Days: f.days, Labels: labels, Seed: f.options.Seed}.Make(), nil
	case f.Bitbucket.Scope().Workspace != "":
		return f.fetch(ctx, stderr)
	}
	data, err := f.Contents(f.load, stdin)
	if err != nil {
		return workload.Workload{}, exit.With(exit.Unclear, fmt.Errorf("simulate: %w", err))
	}
	load, err := workload.ReadCSV(filepath.Base(f.load), bytes.NewReader(data))
	if err != nil {
		return workload.Workload{}, fmt.Errorf("simulate %s:\n%w", f.load, err)
	}
	return load, nil
}

// fetch reads the pipelines that a scope has had.
func (f *comparison) fetch(ctx context.Context, stderr io.Writer) (workload.Workload, error) {
	client, err := f.Bitbucket.Open()
	if err != nil {
		return workload.Workload{}, err
	}
	defer client.Close()
	since := time.Now().Add(-time.Duration(f.days) * 24 * time.Hour)
	read, err := past.Read(ctx, client, past.Period{Scope: f.Bitbucket.Scope(), Since: since, Calls: f.calls})
	if err != nil {
		if errors.Is(err, bitbucket.ErrMissingScope) {
			err = fmt.Errorf("%w: reading pipelines needs what strategy queuedSteps needs, Pipelines: read and Repositories: read", err)
		}
		return workload.Workload{}, exit.With(exit.Unclear, err)
	}
	for _, note := range append([]string{fmt.Sprintf("%s in %s", command.Count(len(read.Workload.Pipelines), "pipeline"), command.Count(read.Calls, "call"))}, read.Notes...) {
		if _, err := fmt.Fprintln(stderr, "note: "+note); err != nil {
			return workload.Workload{}, exit.With(exit.Unclear, err)
		}
	}
	return read.Workload, nil
}

func (f *comparison) saveWorkload(load workload.Workload) error {
	if f.save == "" {
		return nil
	}
	return writeFile(f.save, load.WriteCSV)
}

// simulated are the groups of one configuration.
type simulated struct {
	name   string
	groups []simulate.Group
}

// groups returns the groups of each file. Without files it makes groups for the labels of the
// workload.
func (f *comparison) groups(load workload.Workload, stdin io.Reader) ([]simulated, error) {
	if len(f.files) == 0 {
		groups, err := groupsOf(load, f.max, cmp.Or(f.Bitbucket.Scope().Workspace, "EDIT"))
		if err != nil {
			return nil, exit.With(exit.Unclear, fmt.Errorf("simulate: %w", err))
		}
		return []simulated{{groups: groups}}, nil
	}
	files := make([]simulated, len(f.files))
	for i, name := range f.files {
		data, err := f.Contents(name, stdin)
		if err != nil {
			return nil, exit.With(exit.Unclear, fmt.Errorf("simulate: %w", err))
		}
		content, err := config.Read(data)
		if err != nil {
			return nil, fmt.Errorf("simulate %s:\n%w", name, err)
		}
		files[i].name = filepath.Base(name)
		for _, g := range content.Groups {
			files[i].groups = append(files[i].groups, simulate.Group{Namespace: g.Namespace, Name: g.Name, Group: g.Group})
		}
	}
	return files, nil
}

// groupsOf makes a group of a workspace for each set of labels.
func groupsOf(load workload.Workload, most int, workspace string) ([]simulate.Group, error) {
	var groups []simulate.Group
	for _, labels := range load.LabelSets() {
		platform := labels.Platform()
		custom := slices.DeleteFunc(slices.Clone(labels), func(l string) bool { return l == pipelines.SelfHosted || l == platform })
		if len(custom) == 0 {
			custom = pipelines.Labels{"any"}
		}
		parsed, err := runnergroup.Parse(map[string]string{
			"workspace": workspace, "labels": strings.Join(custom, ","), "os": platform, "max": fmt.Sprint(min(most, policy.ScopeLimit)),
		})
		if err != nil {
			return nil, fmt.Errorf("no runner group can serve steps with the labels %s: %w", strings.Join(labels, " "), err)
		}
		name := strings.ReplaceAll(strings.Join(parsed.Labels, "-"), ".", "-")
		if platform != pipelines.Linux {
			name += "-" + strings.ReplaceAll(platform, ".", "-")
		}
		if slices.ContainsFunc(groups, func(g simulate.Group) bool { return g.SameRunners(parsed) }) {
			continue // the labels differ by implied ones
		}
		groups = append(groups, simulate.Group{Namespace: jobfactory.DefaultNamespace, Name: name, Group: parsed})
	}
	return groups, nil
}

// The strategies that are simulated without -f.
var simulatedStrategies = []struct {
	name  string
	apply func(*simulate.Group)
}{
	{"percentageRunnersIdle", func(*simulate.Group) {}},
	{"queuedSteps", func(g *simulate.Group) { g.Rules.Strategy = policy.QueuedSteps }},
	{"queuedSteps, lookAhead", func(g *simulate.Group) { g.Rules.Strategy = policy.QueuedSteps }},
	{"queuedSteps, spare 2", func(g *simulate.Group) { g.Rules.Strategy, g.Rules.Spare = policy.QueuedSteps, min(2, g.Rules.Max) }},
}

// configurations are all that is simulated.
func (f *comparison) configurations(files []simulated) (all []simulate.Configuration) {
	first := files[0].groups
	if len(f.files) == 0 {
		for _, s := range simulatedStrategies {
			groups := slices.Clone(first)
			for i := range groups {
				s.apply(&groups[i])
				if strings.Contains(s.name, "lookAhead") {
					groups[i].LookAhead = f.options.Boot.Most + f.options.KEDA
				}
			}
			all = append(all, simulate.Configuration{Name: s.name, Groups: groups, Scaler: simulate.Ours{}})
		}
	} else {
		for _, file := range files {
			all = append(all, simulate.Configuration{Name: file.name, Groups: file.groups, Scaler: simulate.Ours{}})
		}
	}
	if !f.compare {
		return all
	}
	for _, interval := range []time.Duration{600 * time.Second, 120 * time.Second} {
		all = append(all, simulate.Configuration{Name: fmt.Sprintf("runners-autoscaler, %.0f s", interval.Seconds()), Groups: first, Scaler: simulate.Incumbent{Interval: interval}})
	}
	return append(all, simulate.Configuration{Name: "clairvoyant", Groups: first, Scaler: simulate.Clairvoyant{}})
}
