// Package lint finds what is wrong or dangerous in the configuration of runner
// groups: in configuration files, in manifests and in the ScaledJobs of a live
// cluster. Each rule is one entry of one list. How a trigger's metadata is read
// lives in externalscaler/runnergroup, how a configuration file is in jobfactory.
package lint

import (
	"cmp"
	"slices"
)

// Severity says how bad a finding is.
type Severity string

// The severities. With an error runners are lost, or never come; a warning says
// what will surprise.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
)

// Rule is one thing that lint looks for.
type Rule struct {
	// ID in kebab case; it stays the same from version to version.
	ID string `json:"id"`
	// Severity of all the rule's findings.
	Severity Severity `json:"severity"`
	// Finds says what it looks for, Remedy what to do.
	Finds  string `json:"finds"`
	Remedy string `json:"remedy"`
}

// Finding is one place that breaks a rule.
type Finding struct {
	Rule     string   `json:"rule"`
	Severity Severity `json:"severity"`
	// File as it was named, `-` for stdin, or the name of a live object.
	File string `json:"file"`
	// Line from 1; 0 in a live cluster.
	Line int `json:"line,omitempty"`
	// Path of the key, such as spec.maxReplicaCount.
	Path string `json:"path,omitempty"`
	// Object is the ScaledJob's namespace and name, where there is one.
	Object  string `json:"object,omitempty"`
	Message string `json:"message"`
	Remedy  string `json:"remedy"`
}

// entry is a rule with its check: of one ScaledJob, or of all together.
type entry struct {
	Rule
	one func(*job, report)
	all func([]*job, Options, reportAt)
}

type (
	// report takes a finding at a path of the ScaledJob at hand.
	report func(message string, path ...string)
	// reportAt takes one of any ScaledJob.
	reportAt func(j *job, message string, path ...string)
)

// Rules are all rules, in the order in which they are checked.
func Rules() []Rule {
	all := entries()
	rules := append(make([]Rule, 0, 2+len(all)), unreadable, badConfig)
	for _, e := range all {
		rules = append(rules, e.Rule)
	}
	return rules
}

func entries() []entry {
	return slices.Concat(scalingRules(), podRules(), setRules())
}

// Check runs every rule over what was read. Findings are in the order of files,
// lines and rules.
func Check(input *Input, options Options) []Finding {
	findings := slices.Clone(input.findings)
	for _, e := range entries() {
		at := func(j *job, message string, path ...string) {
			findings = append(findings, j.finding(e.Rule, message, path))
		}
		if e.all != nil {
			e.all(input.jobs, options, at)
			continue
		}
		for _, j := range input.jobs {
			e.one(j, func(message string, path ...string) { at(j, message, path...) })
		}
	}
	order := map[string]int{}
	for i, file := range input.files {
		order[file] = i
	}
	slices.SortStableFunc(findings, func(a, b Finding) int {
		return cmp.Or(order[a.File]-order[b.File], a.Line-b.Line, cmp.Compare(a.Object, b.Object), cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Path, b.Path), cmp.Compare(a.Message, b.Message))
	})
	return slices.Compact(findings)
}
