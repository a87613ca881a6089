package scope

import (
	"time"

	"bitbucket-runner-scaler/bitbucket"
)

// ID names a scope: a credentials set, and a workspace or repository by slugs or
// UUIDs.
type ID struct {
	Credentials string
	Scope       bitbucket.Scope
}

// String is the scope without the name of its credentials set.
func (id ID) String() string { return id.Scope.String() }

// Views are what is known of all scopes in use, by every ID under which they were
// asked for: a slug and a UUID of one scope lead to the same View.
type Views map[ID]*View

// View is what is known of one scope at one moment. It is immutable.
type View struct {
	// ID is that of the spelling that was first asked for, whatever the spelling
	// under which the View was found.
	ID ID
	// Resolved is the scope by UUIDs; zero before it could be resolved.
	Resolved bitbucket.Scope
	// Runners are the runners of the last list, as the writes made since left them.
	Runners []bitbucket.Runner
	// ListBegun is when the list in force was begun by the local clock, ServerDate
	// the Date header of its answer; zero before the first list.
	ListBegun, ServerDate time.Time
	// Interval is the time between two lists that is in force.
	Interval time.Duration
	// Stretched is true if Interval is noticeably longer than Config.PollInterval.
	Stretched bool
	// StepSeen is true if the lists of the scope show steps.
	StepSeen bool
	// Err is why the last list failed; nil if it did not.
	Err error
	// NotFound says that Bitbucket does not know the scope, and since when.
	NotFound NotFound

	list *bitbucket.RunnerList
	// listShowsSteps is true if the list in force shows the step of some runner.
	listShowsSteps bool
	rechecks       map[string]recheck
}

// Listed is a runner as the last list, or a later read of it alone, shows it,
// without what was written since. A read that shows a runner DISABLED was made
// after that took effect, however late Bitbucket applied the write or however old
// a list it returned.
type Listed struct {
	Runner bitbucket.Runner
	// ShowsSteps is true if what shows the runner shows the step of some runner.
	// Only then does the absence of a step prove anything, because lists that once
	// showed steps may stop to do so.
	ShowsSteps bool
}

// Listed finds a runner by its UUID; false if neither the list in force nor a read
// since shows it. ShowsSteps is set in both cases.
func (v *View) Listed(uuid string) (Listed, bool) {
	if r, ok := v.rechecks[uuid]; ok {
		return Listed{Runner: r.runner, ShowsSteps: r.runner.State.Step != nil}, true
	}
	shown := Listed{ShowsSteps: v.listShowsSteps && v.StepSeen}
	if v.list == nil {
		return shown, false
	}
	for i := range v.list.Runners {
		if v.list.Runners[i].UUID == uuid {
			shown.Runner = v.list.Runners[i]
			return shown, true
		}
	}
	return shown, false
}

// Same reports whether two views are of one scope, perhaps through different
// credentials sets.
func (v *View) Same(other *View) bool {
	return v.ID == other.ID || v.Resolved.Workspace != "" && v.Resolved == other.Resolved
}

// PickOwn picks a pod's runner among those of its name. A registration whose answer
// was lost may leave a second one: the pod's is the one that its sidecar reports,
// and otherwise the one that has connected. It returns nil if there is none.
func PickOwn(named []*bitbucket.Runner, reported string) *bitbucket.Runner {
	var found *bitbucket.Runner
	for _, runner := range named {
		switch {
		case runner.UUID == reported:
			return runner
		case found == nil || found.State.Status == bitbucket.StatusUnregistered:
			found = runner
		}
	}
	return found
}
