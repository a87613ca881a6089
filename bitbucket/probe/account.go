package probe

import (
	"fmt"
	"slices"
	"strings"

	"bitbucket-runner-scaler/bitbucket"
)

// Account is what Access found of one set of credentials.
type Account struct {
	Kind       bitbucket.Kind `json:"kind"`
	Deprecated bool           `json:"deprecated,omitempty"`
	// Who is the account or consumer, as far as Bitbucket says; never a secret.
	Who string `json:"who"`
	// Scopes are those that Bitbucket names, sorted; nil where it names none.
	Scopes []string `json:"scopes"`
	Needs  []Need   `json:"needs"`
	Works  []Work   `json:"works"`
	Hourly Hourly   `json:"hourly"`
	// Faults are what keeps the scaler from using the credentials; empty if nothing.
	Faults []string `json:"faults,omitempty"`
	// Unclear is why it could not be told: Bitbucket was not reached, or throttles.
	Unclear string `json:"unclear,omitempty"`
}

// Need is a scope and what the scaler needs it for.
type Need struct {
	Scope string `json:"scope"`
	For   string `json:"for"`
	// Required is false for what the scaler can do without.
	Required bool `json:"required"`
	// Has is what is known: yes, no, or unknown.
	Has Has `json:"has"`
}

// Has says whether credentials have a scope.
type Has string

// What is known of a scope.
const (
	HasYes     Has = "yes"
	HasNo      Has = "no"
	HasUnknown Has = "unknown"
)

// Work is something that was tried, without changing anything.
type Work struct {
	What  string `json:"what"`
	Scope string `json:"scope"` // workspace[/repository]
	OK    bool   `json:"ok"`
	Said  string `json:"said"`
}

// Hourly is what is known of the allowance of calls.
type Hourly struct {
	// Limit is Bitbucket's own word, 0 where it says none: then 1,000 are assumed.
	Limit int `json:"limit,omitempty"`
	// Near is Bitbucket's word that 20 % or less are left.
	Near bool `json:"near,omitempty"`
	// Exhausted is a 429.
	Exhausted bool `json:"exhausted,omitempty"`
	// Calls are those of this look.
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

// needs are what the scaler needs, by the names of OAuth consumers and access tokens,
// and those of API tokens.
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

// judge says of each need whether it is met, and what is a fault.
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
			need.Has = HasUnknown // a scope to write may imply the one to read
		default:
			need.Has = HasNo
		}
		a.account.Needs = append(a.account.Needs, need)
		if need.Required && need.Has == HasNo {
			a.account.Faults = append(a.account.Faults, fmt.Sprintf("lacks the scope %s, for %s", need.Scope, need.For))
		}
	}
	for _, work := range a.account.Works {
		if work.OK || work.What == whatPipelines { // the queue is extra
			continue
		}
		fault := fmt.Sprintf("%s: %s: %s", work.Scope, work.What, work.Said)
		if strings.HasPrefix(work.What, whatSlug) {
			fault += "; given as {uuid} it needs no such call"
		}
		a.account.Faults = append(a.account.Faults, fault)
	}
}
