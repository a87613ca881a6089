package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"bitbucket-runner-scaler/bitbucket/pipelines"
	"bitbucket-runner-scaler/jobfactory"
)

// pipelineView is a pipeline in the JSON output.
type pipelineView struct {
	Selector selectorView `json:"selector"`
	Unknown  string       `json:"unknown"`
	Steps    []stepView   `json:"steps"`
}

type selectorView struct {
	Type    string `json:"type"`
	Pattern string `json:"pattern"`
}

type stepView struct {
	Name string `json:"name"`
	// Labels are those of the file; empty for a step on Atlassian's own runners.
	Labels []string `json:"labels"`
	// Waits is true if the step would wait for a self-hosted runner now.
	Waits       bool   `json:"waits"`
	Manual      bool   `json:"manual"`
	Conditional bool   `json:"conditional"`
	Unknown     string `json:"unknown"`
	// Group serves the step: namespace/name.
	Group string `json:"group"`
}

// outlook knows the groups and counts what it has seen.
type outlook struct {
	groups                            []jobfactory.RunnerGroup
	steps, waiting, unserved, unknown int
}

func groupName(group jobfactory.RunnerGroup) string { return group.Namespace + "/" + group.Name }

// labels are those of a group's runners.
func (o *outlook) labels() []pipelines.Labels {
	all := make([]pipelines.Labels, len(o.groups))
	for i, group := range o.groups {
		all[i] = pipelines.Runner(group.Group.OS, group.Group.Labels...)
	}
	return all
}

// server returns the name of the first group that serves a step.
func (o *outlook) server(step pipelines.Step) string {
	at := slices.IndexFunc(o.labels(), step.Labels.ServedBy)
	if at < 0 {
		return ""
	}
	return groupName(o.groups[at])
}

func (o *outlook) view(p pipelines.Pipeline, states []pipelines.State) pipelineView {
	view := pipelineView{Selector: selectorView{p.Selector.Type, p.Selector.Pattern}, Unknown: p.Unknown, Steps: []stepView{}}
	if p.Unknown != "" {
		o.unknown++
	}
	ready := pipelines.Ready(p, states)
	for _, step := range p.Steps {
		s := stepView{
			Name: step.Title(), Labels: append([]string{}, step.Labels...), Manual: step.FromHand, Conditional: step.Conditional,
			Unknown: step.Unknown, Group: o.server(step),
		}
		s.Waits = len(step.Labels) > 0 && slices.ContainsFunc(ready, func(r pipelines.Step) bool { return r.Index == step.Index })
		o.steps++
		switch {
		case step.Unknown != "":
			o.unknown++
		case len(step.Labels) > 0 && s.Group == "":
			o.unserved++
		}
		if s.Waits {
			o.waiting++
		}
		view.Steps = append(view.Steps, s)
	}
	return view
}

// writeLine prints JSON on one line.
func writeLine(to io.Writer, value any) error {
	encoder := json.NewEncoder(to)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(value)
}

// writePipeline prints a pipeline as a table, with an empty line before it if it is not the first.
func writePipeline(to io.Writer, p pipelines.Pipeline, states []pipelines.State, view pipelineView, seen *outlook, further bool, style style) error {
	title := p.Selector.String()
	if further {
		title = "\n" + title
	}
	if p.Unknown != "" {
		_, err := fmt.Fprintf(to, "%s\n  %s: %s\n", title, style.warn("unknown"), p.Unknown)
		return err
	}
	if _, err := fmt.Fprintln(to, title); err != nil {
		return err
	}
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 8, 2, ' ', 0)
	for i, step := range p.Steps {
		line := fmt.Sprintf("  %d\t%s\t%s\t%s", i+1, step.Title(), asks(step), when(p, states, step, view.Steps[i].Waits))
		if len(seen.groups) > 0 {
			line += "\t" + seen.served(step, view.Steps[i].Group)
		}
		if _, err := fmt.Fprintln(table, line); err != nil {
			return err
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for line := range strings.Lines(text.String()) {
		if _, err := fmt.Fprintln(to, strings.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	return nil
}

// asks describes what a step asks for.
func asks(step pipelines.Step) string {
	switch {
	case step.Child:
		return "no runner: starts custom:" + step.ChildName
	case step.Unknown != "":
		return "unknown"
	case len(step.Labels) == 0:
		return "Atlassian's own runners"
	}
	labels := strings.Join(step.Labels, " ")
	if platform := step.Labels.Platform(); !slices.Contains(step.Labels, platform) {
		labels += " (" + platform + ")"
	}
	return labels
}

// when describes when a step starts.
func when(p pipelines.Pipeline, states []pipelines.State, step pipelines.Step, waits bool) string {
	if states[step.Index] == pipelines.Done() {
		return "done"
	}
	if waits {
		return "waits now"
	}
	var before []string
	for _, i := range p.Predecessors(step.Index) {
		if states[i] != pipelines.Done() {
			before = append(before, strconv.Itoa(i+1))
		}
	}
	var parts []string
	if len(before) > 0 {
		parts = []string{"after " + strings.Join(before, ", ")}
	}
	if step.Final {
		parts = []string{"at the end, even after a failure"}
	}
	if step.FromHand {
		parts = append(parts, "when a person starts it")
	}
	if step.Conditional {
		parts = append(parts, "if its condition holds")
	}
	if step.ConcurrencyGroup != "" {
		parts = append(parts, "one at a time of "+step.ConcurrencyGroup)
	}
	if step.Deployment != "" {
		parts = append(parts, "locks "+step.Deployment)
	}
	if len(parts) == 0 {
		return "now"
	}
	return strings.Join(parts, ", ")
}

// served describes which group serves a step, or which one comes closest.
func (o *outlook) served(step pipelines.Step, group string) string {
	switch {
	case step.Unknown != "":
		return step.Unknown
	case len(step.Labels) == 0:
		return ""
	case group != "":
		return group
	}
	hint := pipelines.Nearest(step.Labels, o.labels())
	if hint.Index < 0 {
		return "no group"
	}
	var missing []string
	for _, label := range hint.Missing {
		if meant := hint.Meant[label]; meant != "" {
			label += " (it has " + meant + ")"
		}
		missing = append(missing, label)
	}
	return fmt.Sprintf("no group; %s lacks %s", groupName(o.groups[hint.Index]), strings.Join(missing, ", "))
}
