package simulation

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"bitbucket-runner-scaler/cmd/internal/command"
	"bitbucket-runner-scaler/cmd/internal/exit"
	"bitbucket-runner-scaler/externalscaler/policy"
	"bitbucket-runner-scaler/externalscaler/simulate"
	"bitbucket-runner-scaler/externalscaler/simulate/recommendation"
	"bitbucket-runner-scaler/externalscaler/simulate/report"
	"bitbucket-runner-scaler/externalscaler/simulate/workload"
)

// recommendFor prints the configuration with which the workload costs least.
func (f *comparison) recommendFor(ctx context.Context, load workload.Workload, files []simulated, stdout, stderr io.Writer) error {
	groups := files[0].groups
	for _, g := range groups {
		if g.Rules.Strategy == policy.Fixed {
			return exit.With(exit.Unclear, fmt.Errorf("simulate: --recommend: group %s has strategy fixed, want one with a max", g.Name))
		}
	}
	search := recommendation.Search{Load: load, Groups: groups, Options: f.options, P95: f.p95, Most: f.evaluations}
	answer, err := search.Run(ctx)
	if err != nil {
		return exit.With(exit.Unclear, err)
	}
	choices := report.Report{Workload: load.Name, Pipelines: len(load.Pipelines), Steps: load.Steps(), Start: load.Start, Price: f.price}
	for _, c := range answer.Choices {
		choices.Results = append(choices.Results, c.Result)
	}
	if f.output == "json" {
		return f.recommendJSON(answer, groups, choices, stdout)
	}
	text, err := configuration(answer.Best.Apply(groups))
	if err != nil {
		return exit.With(exit.Unclear, err)
	}
	if _, err := fmt.Fprintf(stderr, "%s: %s, %s; %s tried\nThe cheapest settings for each wait:\n", load.Name, command.Count(len(load.Pipelines), "pipeline"), command.Count(load.Steps(), "step"), command.Count(answer.Tried, "setting")); err != nil {
		return exit.With(exit.Unclear, err)
	}
	if err := choices.WriteTable(stderr); err != nil {
		return exit.With(exit.Unclear, err)
	}
	if _, err := fmt.Fprintf(stdout, "# p95 of the wait %s, %.1f runner hours (%.1f idle): %s\n%s", report.Wait(answer.Best.Result.Wait.P95),
		answer.Best.Result.RunnerTime.Hours(), answer.Best.Result.IdleTime.Hours(), answer.Best.Settings, text); err != nil {
		return exit.With(exit.Unclear, err)
	}
	return f.verdict(answer)
}

// verdict is an error if the bound is not kept.
func (f *comparison) verdict(answer recommendation.Answer) error {
	if answer.Within {
		return nil
	}
	if failed := answer.Best.Result.Failed; failed > 0 {
		return fmt.Errorf("simulate: with the best settings %s no runner online: no group serves them, or min is too low", command.Count(failed, "step")+" found")
	}
	return fmt.Errorf("simulate: none of %s keeps the p95 of the wait within %v; the best one has %s. A higher max may help", command.Count(answer.Tried, "setting"), f.p95, report.Wait(answer.Best.Result.Wait.P95))
}

func (f *comparison) recommendJSON(answer recommendation.Answer, groups []simulate.Group, choices report.Report, stdout io.Writer) error {
	best := choices
	best.Results = []simulate.Result{answer.Best.Result}
	text, err := configuration(answer.Best.Apply(groups))
	if err != nil {
		return exit.With(exit.Unclear, err)
	}
	encoder := json.NewEncoder(stdout)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(map[string]any{"within": answer.Within, "tried": answer.Tried, "configuration": text, "best": best.Document().Results[0], "choices": choices.Document().Results}); err != nil {
		return exit.With(exit.Unclear, err)
	}
	return f.verdict(answer)
}

// recommended is a group as the configuration file has it.
type recommended struct {
	Name         string   `yaml:"name"`
	Namespace    string   `yaml:"namespace"`
	Workspace    string   `yaml:"workspace"`
	Repository   string   `yaml:"repository,omitempty"`
	Labels       []string `yaml:"labels,flow"`
	OS           string   `yaml:"os,omitempty"`
	Strategy     string   `yaml:"strategy"`
	Repositories []string `yaml:"repositories,omitempty,flow"`
	Credentials  string   `yaml:"credentials,omitempty"`
	Schedules    []window `yaml:"schedules,omitempty"`
	Parameters   struct {
		Min       int     `yaml:"min"`
		Max       int     `yaml:"max"`
		Spare     int     `yaml:"spare"`
		ScaleUp   float64 `yaml:"scale_up_threshold,omitempty"`
		ScaleDown float64 `yaml:"scale_down_threshold,omitempty"`
		CoolDown  string  `yaml:"cool_down"`
		LookAhead string  `yaml:"look_ahead,omitempty"`
		Ephemeral bool    `yaml:"ephemeral,omitempty"`
	} `yaml:"parameters,flow"`
}

// window is a time window as the configuration file has it.
type window struct {
	Start    string `yaml:"start"`
	End      string `yaml:"end"`
	Timezone string `yaml:"timezone,omitempty"`
	Min      *int   `yaml:"min,omitempty"`
	Max      *int   `yaml:"max,omitempty"`
	Spare    *int   `yaml:"spare,omitempty"`
}

// configuration writes groups as a configuration file, with what decides how they scale.
func configuration(groups []simulate.Group) (string, error) {
	file := struct {
		Groups []recommended `yaml:"groups"`
	}{}
	for _, g := range groups {
		r := recommended{Name: g.Name, Namespace: g.Namespace, Workspace: g.Workspace, Repository: g.Repository, Labels: g.Labels, Strategy: string(g.Rules.Strategy)}
		if g.OS != "linux" {
			r.OS = g.OS
		}
		if g.Credentials != "default" {
			r.Credentials = g.Credentials
		}
		for _, w := range g.Windows {
			r.Schedules = append(r.Schedules, window(w.Schedule))
		}
		p := &r.Parameters
		p.Min, p.Max, p.Spare, p.CoolDown, p.Ephemeral = g.Rules.Min, g.Rules.Max, g.Rules.Spare, seconds(g.Rules.CoolDown), g.Rules.Ephemeral
		if g.Rules.Strategy == policy.QueuedSteps {
			p.LookAhead = seconds(g.LookAhead)
			if g.Repository == "" {
				r.Repositories = g.Repositories
			}
		} else {
			p.ScaleUp, p.ScaleDown = g.Rules.ScaleUpThreshold, g.Rules.ScaleDownThreshold
		}
		file.Groups = append(file.Groups, r)
	}
	var text strings.Builder
	encoder := yaml.NewEncoder(&text)
	encoder.SetIndent(2)
	if err := encoder.Encode(file); err != nil {
		return "", err
	}
	return text.String(), nil
}

// seconds writes a duration as the configuration's examples do.
func seconds(d time.Duration) string { return fmt.Sprintf("%gs", d.Seconds()) }
