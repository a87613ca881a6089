// Package api has the values of the read-only HTTP API, /api/v1: what the scaler serves, the page
// shows and runnerctl reads. openapi.json describes them. Times are those of the scaler's clock,
// in RFC 3339. An absent field is empty or not known.
package api

import (
	_ "embed" // for the description
	"slices"
	"time"
)

// Description is the OpenAPI document of the API.
//
//go:embed openapi.json
var Description []byte

// Installation is what holds for the whole installation.
type Installation struct {
	Version string `json:"version"`
	// Owner is the label of the installation's runners.
	Owner string `json:"owner"`
	// Leads is true if this replica leads. Only the leader knows groups. Leader names it.
	Leads  bool   `json:"leads"`
	Leader string `json:"leader,omitempty"`
	// Problems of all groups and of the installation, the worst first.
	Problems []Problem `json:"problems"`
	// Credentials, Scopes and Repositories are those in use.
	Credentials  []Credentials `json:"credentials"`
	Scopes       []Scope       `json:"scopes"`
	Repositories []Repository  `json:"repositories"`
	Certificates []Certificate `json:"certificates"`
	// Webhooks is true if the scaler has a listener for webhooks.
	Webhooks bool `json:"webhooks"`
}

// Severity says how bad a problem is.
type Severity string

// The severities, the worst first.
const (
	SeverityError   Severity = "error"   // something does not work
	SeverityWarning Severity = "warning" // something works worse than it should, or soon will
	SeverityInfo    Severity = "info"    // something that one should know
)

// Rank is 0 for the worst severity, and higher for those that are less bad.
func (s Severity) Rank() int {
	return slices.Index([]Severity{SeverityError, SeverityWarning, SeverityInfo}, s)
}

// noProblem is the rank of what has none.
const noProblem = 3

// Problem is something that a person should know or do something about.
type Problem struct {
	Severity Severity `json:"severity"`
	// Kind is one word, such as AtMax. docs/troubleshoot.md has a section for each.
	Kind string `json:"kind"`
	// Group is NAMESPACE/NAME; empty if the problem is not that of one group.
	Group string `json:"group,omitempty"`
	// Repository is the one that the problem is about, if it is about one.
	Repository string `json:"repository,omitempty"`
	// Message says what is wrong. Remedy says what to do about it.
	Message string     `json:"message"`
	Remedy  string     `json:"remedy,omitempty"`
	Since   *time.Time `json:"since,omitempty"`
}

// Credentials is a credentials set and what is left of its allowance.
type Credentials struct {
	Name string `json:"name"`
	// Remaining calls of the rolling hour, and its Limit.
	Remaining int `json:"remaining"`
	Limit     int `json:"limit"`
	// Stretch is the factor, at least 1, by which lists are slower than configured so that the
	// allowance lasts.
	Stretch float64 `json:"stretch"`
	// LastDelivery is when the last correctly signed webhook arrived.
	LastDelivery *time.Time `json:"lastDelivery,omitempty"`
}

// Scope is a workspace or repository in which runners are registered.
type Scope struct {
	Name        string `json:"name"`
	Credentials string `json:"credentials"`
	// Registered counts its runners, whoever owns them, of at most Limit.
	Registered int `json:"registered"`
	Limit      int `json:"limit"`
	// Listed is when the list in force was begun, and ListInterval the time to the next, in
	// seconds.
	Listed       *time.Time `json:"listedOn,omitempty"`
	ListInterval float64    `json:"listIntervalSeconds"`
	Error        string     `json:"error,omitempty"`
}

// Repository is one whose pipelines are looked at for steps that wait.
type Repository struct {
	Name        string `json:"name"`
	Credentials string `json:"credentials"`
	// Pipelines counts those that are followed.
	Pipelines int `json:"pipelines"`
	// LastDelivery is when the last webhook of an unbroken series came. It is absent if webhooks
	// are not known to arrive. LookInterval is the time between two looks without a webhook, in
	// seconds; 0 if webhooks make them needless.
	LastDelivery *time.Time `json:"lastDelivery,omitempty"`
	LookInterval float64    `json:"lookIntervalSeconds"`
	Error        string     `json:"error,omitempty"`
}

// UseServer and UseAuthority are what certificates are for.
const (
	UseServer    = "server"
	UseAuthority = "authority"
)

// Certificate is one that the scaler serves or publishes.
type Certificate struct {
	// Use is server or authority.
	Use      string    `json:"use"`
	NotAfter time.Time `json:"notAfter"`
}

// Group is a runner group: one ScaledJob.
type Group struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Scope is the workspace or repository as the ScaledJob spells it. The settings are absent
	// if they are not valid: then Error says why.
	Scope       string   `json:"scope,omitempty"`
	Credentials string   `json:"credentials,omitempty"`
	Strategy    string   `json:"strategy,omitempty"`
	Labels      []string `json:"labels,omitempty"`
	Min         int      `json:"min"`
	Max         int      `json:"max"`
	Spare       int      `json:"spare"`
	Ephemeral   bool     `json:"ephemeral"`
	// CoolDown in seconds.
	CoolDown float64 `json:"coolDownSeconds"`
	// Schedules are the group's time windows, and Schedule those that are open. Min, Max and Spare
	// are those in force.
	Schedules []string `json:"schedules,omitempty"`
	Schedule  string   `json:"schedule,omitempty"`
	// Error says why no decision can be made.
	Error string `json:"error,omitempty"`
	// Runners counts the runners and Jobs by state: pending, starting, idle, busy, unknown,
	// draining, "draining busy", replaced, lost.
	Runners map[string]int `json:"runners"`
	// Decision is the last one; absent if there is none.
	Decision *Decision `json:"decision,omitempty"`
	// Queue is what waits; absent if the group does not scale by it.
	Queue *Queue `json:"queue,omitempty"`
	// Hold says why the group is not scaled down.
	Hold string `json:"scaleDownHeld,omitempty"`
	// Listed is when the list that all this rests on was begun.
	Listed   *time.Time `json:"listedOn,omitempty"`
	Problems []Problem  `json:"problems"`
}

// Key is NAMESPACE/NAME.
func (g Group) Key() string { return g.Namespace + "/" + g.Name }

// Worst is the rank of the worst of the group's problems, which is higher than any if it has none.
func (g Group) Worst() int {
	worst := noProblem
	for _, p := range g.Problems {
		worst = min(worst, p.Severity.Rank())
	}
	return worst
}

// Online counts the runners that are online.
func (g Group) Online() int {
	return g.Runners["idle"] + g.Runners["busy"] + g.Runners["unknown"] + g.Runners["draining busy"] + g.Runners["replaced"]
}

// Queue is what waits for the runners of a group.
type Queue struct {
	// Queued are the steps that wait, and Predicted those that will within the look-ahead.
	Queued    int `json:"queued"`
	Predicted int `json:"predicted"`
	// Unknown says why not all of it can be seen.
	Unknown string `json:"unknown,omitempty"`
}

// Decision is how many runners a group should have, and why.
type Decision struct {
	Group string    `json:"group"`
	Time  time.Time `json:"time"`
	// Desired is what the rules ask for, Effective what is acted on, the highest number desired
	// within the cool-down. Target is the number of unfinished Jobs that KEDA is asked to keep.
	Desired   int    `json:"desired"`
	Effective int    `json:"effective"`
	Target    int    `json:"target"`
	Reason    string `json:"reason"`
	Note      string `json:"note"`
	// Inputs are the numbers that the rules were applied to, by name.
	Inputs map[string]int `json:"inputs"`
}

// Runner is one runner of a group, or a Job on its way to one.
type Runner struct {
	Group string `json:"group"`
	// Name and UUID at Bitbucket; absent before it is registered.
	Name  string `json:"name,omitempty"`
	UUID  string `json:"uuid,omitempty"`
	State string `json:"state"`
	Job   string `json:"job,omitempty"`
	Pod   string `json:"pod,omitempty"`
	Node  string `json:"node,omitempty"`
	// Created is when its Job was created, Since when it began to do what it does now.
	Created *time.Time `json:"createdOn,omitempty"`
	Since   *time.Time `json:"since,omitempty"`
	// Step is the one that it runs.
	Step *Step `json:"step,omitempty"`
	// Outdated is true if its ScaledJob was changed since.
	Outdated bool `json:"outdated,omitempty"`
	// Waits says in Kubernetes' words why it does not come to a runner.
	Waits string `json:"waits,omitempty"`
}

// StepState is how far a step has come.
type StepState string

// The states of steps.
const (
	StepWaiting  StepState = "waiting"  // for a runner
	StepExpected StepState = "expected" // to wait soon, within its group's look-ahead
	StepHeld     StepState = "held"     // by something else than a runner
	StepUnserved StepState = "unserved" // asks for a runner that no group has
	StepRunning  StepState = "running"
	StepEnded    StepState = "ended"
	StepUnknown  StepState = "unknown" // nothing can be said of it
)

// Step is one step of a pipeline.
type Step struct {
	UUID       string `json:"uuid"`
	Name       string `json:"name,omitempty"`
	Pipeline   string `json:"pipeline,omitempty"`
	Build      int    `json:"build,omitempty"`
	Repository string `json:"repository,omitempty"`
	// URL of the step's log at Bitbucket.
	URL    string    `json:"url,omitempty"`
	Labels []string  `json:"labels,omitempty"`
	State  StepState `json:"state"`
	// Group is the one that serves it, or of an unserved step the nearest. Runner is the name of
	// the one that runs it.
	Group  string `json:"group,omitempty"`
	Runner string `json:"runner,omitempty"`
	// Since is when it came into its state. Expected is when it is expected to wait.
	Since    *time.Time `json:"since,omitempty"`
	Expected *time.Time `json:"expectedOn,omitempty"`
	// Why it does not run, the first reason first.
	Why []Reason `json:"why,omitempty"`
}

// Reason is one reason why a step does not run.
type Reason struct {
	// Kind is one word, of the same set as Problem.Kind.
	Kind    string `json:"kind"`
	Message string `json:"message"`
	Remedy  string `json:"remedy,omitempty"`
}

// Sample is a group at one moment, for a chart.
type Sample struct {
	Time    time.Time `json:"time"`
	Queued  int       `json:"queued"`
	Busy    int       `json:"busy"`
	Online  int       `json:"online"`
	Desired int       `json:"desired"`
}

// Items is a list. Omitted counts what it leaves out because it would be too long.
type Items[T any] struct {
	Items   []T `json:"items"`
	Omitted int `json:"omitted,omitempty"`
}

// Error is the answer to a request that cannot be answered.
type Error struct {
	Error string `json:"error"`
	// Leader is the replica to ask, if this one does not lead.
	Leader string `json:"leader,omitempty"`
}
