// Package lint finds errors and risks in the configuration of runner groups: in
// configuration files, in manifests and in the ScaledJobs of a live cluster. Each
// rule is one entry of a list. How a trigger's metadata is parsed is in package
// runnergroup, how a configuration file is read is in package config.
package lint

import (
	"cmp"
	"slices"
)

// Severity is the severity of a rule and its findings.
type Severity string

// The severities. An Error means that runners are lost or never start. A Warning
// means that the behaviour may be surprising.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
)

// Rule is one rule that Check applies.
type Rule struct {
	// ID in kebab case. It does not change between versions.
	ID string `json:"id"`
	// Severity of all the rule's findings.
	Severity Severity `json:"severity"`
	// Finds says what the rule finds, Remedy what to do about it.
	Finds  string `json:"finds"`
	Remedy string `json:"remedy"`
}

// Finding is one violation of a rule.
type Finding struct {
	Rule     string   `json:"rule"`
	Severity Severity `json:"severity"`
	// File is the name that Read got, or the name of a live object.
	File string `json:"file"`
	// Line from 1; 0 for a live object.
	Line int `json:"line,omitempty"`
	// Path of the key, such as spec.maxReplicaCount.
	Path string `json:"path,omitempty"`
	// Object is the ScaledJob's namespace and name, if there is one.
	Object  string `json:"object,omitempty"`
	Message string `json:"message"`
	Remedy  string `json:"remedy"`
}

// entry is a rule with its check, either of each ScaledJob or of all together.
type entry struct {
	Rule
	one func(*job, report)
	all func([]*job, Options, reportAt)
}

type (
	// report adds a finding at a path of the ScaledJob that is checked.
	report func(message string, path ...string)
	// reportAt adds a finding at a path of a ScaledJob.
	reportAt func(j *job, message string, path ...string)
)

// Rules returns all rules, in the order in which they are checked.
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

// Check applies every rule to the input. Findings are in the order of files, lines
// and rules.
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
