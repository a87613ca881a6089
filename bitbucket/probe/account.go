package probe

import (
	"fmt"
	"slices"
	"strings"

	"bitbucket-runner-scaler/bitbucket"
)

// Account is what Access found out about one set of credentials.
type Account struct {
	Kind       bitbucket.Kind `json:"kind"`
	Deprecated bool           `json:"deprecated,omitempty"`
	// Who is the account or consumer as far as Bitbucket reports it, never a secret.
	Who string `json:"who"`
	// Scopes are the scopes that Bitbucket names, sorted. nil if it names none.
	Scopes []string `json:"scopes"`
	Needs  []Need   `json:"needs"`
	Works  []Work   `json:"works"`
	Hourly Hourly   `json:"hourly"`
	// Faults are the reasons why the scaler cannot use the credentials.
	Faults []string `json:"faults,omitempty"`
	// Unclear is why the check could not finish: Bitbucket is unreachable or throttles.
	Unclear string `json:"unclear,omitempty"`
}

// Need is a scope and the purpose for which the scaler needs it.
type Need struct {
	Scope string `json:"scope"`
	For   string `json:"for"`
	// Required is false if the scaler works without the scope.
	Required bool `json:"required"`
	// Has is yes, no or unknown.
	Has Has `json:"has"`
}

// Has says whether credentials have a scope.
type Has string

// The values of Has.
const (
	HasYes     Has = "yes"
	HasNo      Has = "no"
	HasUnknown Has = "unknown"
)

// Work is a call that was tried and changed nothing.
type Work struct {
	What  string `json:"what"`
	Scope string `json:"scope"` // workspace[/repository]
	OK    bool   `json:"ok"`
	Said  string `json:"said"`
}

// Hourly is what is known about the hourly limit of calls.
type Hourly struct {
	// Limit is the limit that Bitbucket reports. If it is 0, Bitbucket reports none, and
	// 1,000 is assumed.
	Limit int `json:"limit,omitempty"`
	// Near is true if Bitbucket reports that at most 20 % remain.
	Near bool `json:"near,omitempty"`
	// Exhausted is true after a 429.
	Exhausted bool `json:"exhausted,omitempty"`
	// Calls is the number of calls of this check.
	Calls int `json:"calls"`
}

// purpose is a reason to need a scope.
type purpose int

const (
	readRunners purpose = iota
	writeRunners
	readWorkspace
	readRepository
	readPipelines
)

// needs lists the scopes that the scaler needs, with the names for OAuth consumers and
// access tokens and the names for API tokens.
var needs = []struct {
	purpose        purpose
	classic, token string
	forWhat        string
}{
	{readRunners, "runner", "read:runner:bitbucket", "listing runners"},
	{writeRunners, "runner:write", "write:runner:bitbucket", "registering, disabling and deleting runners"},
	{readWorkspace, "account", "read:workspace:bitbucket", "a workspace that is given by its slug"},
	{readRepository, "repository", "read:repository:bitbucket", "a repository that is given by its slug, and bitbucket-pipelines.yml"},
	{readPipelines, "pipeline", "read:pipeline:bitbucket", "the queue of steps"},
}

// judge decides for each need whether it is met, and records the faults.
func (a *access) judge() {
	for _, n := range needs {
		need := Need{Scope: n.classic, For: n.forWhat, Required: n.purpose == readRunners || n.purpose == writeRunners, Has: a.shown[n.purpose]}
		if a.account.Kind == bitbucket.KindAPIToken {
			need.Scope = n.token
		}
		switch {
		case need.Has != "":
		case len(a.account.Scopes) == 0:
			need.Has = HasUnknown
		case slices.Contains(a.account.Scopes, need.Scope):
			need.Has = HasYes
		case slices.ContainsFunc(a.account.Scopes, func(s string) bool { return strings.HasPrefix(s, need.Scope+":") }):
			need.Has = HasUnknown // the scope to write may include the scope to read
		default:
			need.Has = HasNo
		}
		a.account.Needs = append(a.account.Needs, need)
		if need.Required && need.Has == HasNo {
			a.account.Faults = append(a.account.Faults, fmt.Sprintf("lacks the scope %s, for %s", need.Scope, need.For))
		}
	}
	for _, work := range a.account.Works {
		if work.OK || work.What == whatPipelines { // the queue is optional
			continue
		}
		fault := fmt.Sprintf("%s: %s: %s", work.Scope, work.What, work.Said)
		if strings.HasPrefix(work.What, whatSlug) {
			fault += "; given as {uuid} it needs no such call"
		}
		a.account.Faults = append(a.account.Faults, fault)
	}
}
