package jobfactory

import (
	"strconv"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
)

// Severity is the severity of a rule and its findings.
type Severity string

// The severities. An Error means that runners are lost or never start. A Warning
// means that the behaviour may be surprising.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
)

// Rule describes one rule about runner groups.
type Rule struct {
	// ID in kebab case. It does not change between versions.
	ID string `json:"id"`
	// Severity of all the rule's findings.
	Severity Severity `json:"severity"`
	// Finds says what the rule finds, Remedy what to do about it.
	Finds  string `json:"finds"`
	Remedy string `json:"remedy"`
}

// RunnerJob is what KEDA creates a group's Jobs from. It comes from render or was written
// by hand.
type RunnerJob struct {
	// OS of the group, as in the trigger's metadata; empty if it is not known.
	OS string
	// Namespace has the labels and annotations of the Job's namespace; nil if they are not
	// known.
	Namespace map[string]string
	batchv1.JobSpec
}

// Violation is a value that breaks a rule.
type Violation struct {
	// Path from the Job's spec. A step such as [docker] is the item of a list with that
	// name.
	Path []string
	// Given is the value; empty if there is none. Accepted says what is accepted instead,
	// and why.
	Given, Accepted string
}

func (v Violation) String() string {
	if v.Given == "" {
		return v.Accepted
	}
	return shorten(v.Given) + ", want " + v.Accepted
}

// JobRule is a rule about the Job of a runner. One list serves render, which refuses a
// pod_template that breaks a rule, and lint, which reports it in manifests.
type JobRule struct {
	Rule
	// refused says whether a configuration that breaks the rule is refused.
	refused bool
	check   func(job RunnerJob, report report)
}

// report adds a violation.
type report func(given, accepted string, path ...string)

// Check returns what breaks the rule.
func (r JobRule) Check(job RunnerJob) []Violation {
	var found []Violation
	r.check(job, func(given, accepted string, path ...string) {
		found = append(found, Violation{Path: path, Given: given, Accepted: accepted})
	})
	return found
}

// refusals returns what is refused of a Job's pod template, as faults of pod_template.
func refusals(job RunnerJob) faults {
	var f faults
	for _, rule := range JobRules() {
		if !rule.refused {
			continue
		}
		for _, v := range rule.Check(job) {
			path := patchPath + "." + strings.TrimPrefix(JoinPath(v.Path), "template.")
			if v.Given == "" {
				f = append(f, &ConfigError{Path: path, Accepted: v.Accepted})
			} else {
				f.add(path, v.Given, v.Accepted)
			}
		}
	}
	return f
}

// JoinPath returns the steps of a path as text, with indices and names in brackets.
func JoinPath(path []string) string {
	var b strings.Builder
	for i, step := range path {
		switch _, err := strconv.Atoi(step); {
		case err == nil:
			b.WriteString("[" + step + "]")
		case i > 0 && !strings.HasPrefix(step, "["):
			b.WriteString("." + step)
		default:
			b.WriteString(step)
		}
	}
	return b.String()
}

// podPath returns the path of a field of the pod's spec.
func podPath(steps ...string) []string { return append([]string{"template", "spec"}, steps...) }

// item returns the step to the item of a list with a name.
func item(name string) string { return "[" + name + "]" }

// place is a container with its path.
type place struct {
	*corev1.Container
	path []string
}

// at returns the path of a field of the container.
func (p place) at(steps ...string) []string {
	return append(p.path[:len(p.path):len(p.path)], steps...)
}

// containers returns the init containers, and then the containers.
func (j *RunnerJob) containers() []place {
	pod := &j.Template.Spec
	all := make([]place, 0, len(pod.InitContainers)+len(pod.Containers))
	for i := range pod.InitContainers {
		all = append(all, place{&pod.InitContainers[i], podPath("initContainers", item(pod.InitContainers[i].Name))})
	}
	for i := range pod.Containers {
		all = append(all, place{&pod.Containers[i], podPath("containers", item(pod.Containers[i].Name))})
	}
	return all
}

// runner returns the runner's container: the one with that name, else the one that
// runs `sidecar exec`, else the only one.
func (j *RunnerJob) runner() (place, bool) {
	pod := &j.Template.Spec
	found := -1
	for i, c := range pod.Containers {
		if c.Name == RunnerContainer || found < 0 && (CallsSidecar(c.Command, "exec") || len(pod.Containers) == 1) {
			found = i
		}
	}
	if found < 0 {
		return place{}, false
	}
	c := &pod.Containers[found]
	return place{c, podPath("containers", item(c.Name))}, true
}

// sidecar returns the init container that runs `sidecar run`.
func (j *RunnerJob) sidecar() (place, bool) {
	for _, c := range j.containers() {
		if c.path[2] == "initContainers" && CallsSidecar(c.Command, "run") {
			return c, true
		}
	}
	return place{}, false
}

// HasSidecar reports whether a container of the pod is the project's.
func (j *RunnerJob) HasSidecar() bool {
	for _, c := range j.containers() {
		if CallsSidecar(c.Command, "run") || CallsSidecar(c.Command, "exec") {
			return true
		}
	}
	return false
}

// CallsSidecar reports whether a command runs the sidecar's command of that name.
func CallsSidecar(command []string, name string) bool {
	return len(command) > 1 && strings.HasSuffix("/"+command[0], "/sidecar") && command[1] == name
}

// IsDaemon reports whether a container is the Docker daemon, which may have any name.
func IsDaemon(c corev1.Container) bool {
	return isPrivileged(c) || strings.Contains(c.Image, "dind")
}

func isPrivileged(c corev1.Container) bool {
	return c.SecurityContext != nil && c.SecurityContext.Privileged != nil && *c.SecurityContext.Privileged
}
