// Package lint finds errors and risks in the configuration of runner groups: in
// configuration files, in manifests and in the ScaledJobs of a live cluster. Each
// rule is one entry of a list. The rules about a runner's Job, which also say what a
// configuration may not change, are in package jobfactory. How a trigger's metadata is
// parsed is in package runnergroup, how a configuration file is read is in package
// config.
package lint

import (
	"cmp"
	"slices"
	"time"

	"bitbucket-runner-scaler/jobfactory"
)

// Rule is one rule that Check applies.
type Rule = jobfactory.Rule

// Severity is the severity of a rule and its findings.
type Severity = jobfactory.Severity

// The severities.
const (
	Error   = jobfactory.Error
	Warning = jobfactory.Warning
)

func rule(id string, severity Severity, finds, remedy string) Rule {
	return Rule{ID: id, Severity: severity, Finds: finds, Remedy: remedy}
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
	rules := slices.Clone(inputRules)
	for _, e := range entries() {
		rules = append(rules, e.Rule)
	}
	return rules
}

func entries() []entry {
	return slices.Concat(scalingRules(), scheduleRules(time.Now), jobRules(), podRules(), setRules())
}

// jobRules are those that also say which pod_template is refused.
func jobRules() []entry {
	rules := jobfactory.JobRules()
	all := make([]entry, len(rules))
	for i, rule := range rules {
		all[i] = entry{Rule: rule.Rule, one: func(j *job, add report) {
			for _, v := range rule.Check(jobfactory.RunnerJob{OS: j.group.OS, Namespace: j.namespaceMarks, JobSpec: j.jobSpec()}) {
				add(v.String(), append([]string{"spec", "jobTargetRef"}, v.Path...)...)
			}
		}}
	}
	return all
}

// Check applies every rule to the input. Findings are in the order of files, lines
// and rules.
func Check(input *Input, options Options) []Finding {
	findings := slices.Clone(input.findings)
	for _, j := range input.jobs {
		j.namespaceMarks = input.namespaces[j.Namespace]
	}
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
