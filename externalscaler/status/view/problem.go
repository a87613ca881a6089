package view

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/bitbucket/pipelines"
	"bitbucket-runner-scaler/externalscaler/policy"
	"bitbucket-runner-scaler/externalscaler/scope"
	"bitbucket-runner-scaler/externalscaler/status/api"
)

// groupProblems says what is wrong with a group, the worst first.
func (t *taking) groupProblems(g *shownGroup) []api.Problem {
	found := problems{group: g.key.String()}
	if g.snapshot == nil {
		found.add(api.SeverityError, kindFaulty, faultyRemedy, time.Time{}, "%v", g.decided)
		return found.sorted()
	}
	s := g.snapshot
	switch {
	case !s.NotFound.Since.IsZero():
		found.add(api.SeverityError, kindNotFound, "Correct workspace and repository in the trigger of the ScaledJob, or delete it.", s.NotFound.Since, "Bitbucket does not know %s", s.Scope)
	case g.decided != nil:
		found.add(api.SeverityError, kindFaulty, faultyRemedy, time.Time{}, "%v", g.decided)
	case refused(s.ListErr):
		found.add(api.SeverityError, kindListFailing, fmt.Sprintf("Correct the credentials set %q: runnerctl check credentials says what is wrong with it.", s.Spec.Credentials), time.Time{}, "Bitbucket refuses the credentials %q for %s: %v", s.Spec.Credentials, s.Scope, s.ListErr)
	case s.ListErr != nil:
		found.add(api.SeverityWarning, kindListFailing, "It is tried again. If it lasts, see whether Bitbucket can be reached.", time.Time{}, "the last list of the runners of %s failed: %v", s.Scope, s.ListErr)
	}
	for _, w := range waits(s.Members) {
		found.add(api.SeverityError, waitKind(w.cause), waitRemedies[waitKind(w.cause)], time.Time{}, "%s: %v", plural(w.jobs, "Job does not come to a runner", "Jobs do not come to a runner"), w.cause)
	}
	if g.crash.Loops() {
		found.add(api.SeverityError, kindCrashLoop, crashRemedy, g.crash.On, "%v; the next one is tried in %s", g.crash, t.seconds(g.crash.Wait))
	}
	if g.decided == nil {
		t.demandProblems(g, &found)
	}
	if s.Hold != "" {
		found.add(api.SeverityInfo, kindHeld, "", time.Time{}, "the group is not scaled down: %s", s.Hold)
	}
	if s.ListsStretched {
		found.add(api.SeverityWarning, kindStretched, stretchRemedy, time.Time{}, "Bitbucket is asked only every %s, so that the calls of credentials %q last", t.seconds(s.ListInterval), s.Spec.Credentials)
	}
	if lost := s.Observation.Lost; lost > 0 {
		found.add(api.SeverityWarning, kindLost, "The reaper ends them. If that happens often, look at nodes and network.", time.Time{}, "%s", plural(lost, "runner is lost: it is offline or unhealthy", "runners are lost: they are offline or unhealthy"))
	}
	for _, m := range s.Members {
		if m.Telemetry.Unrecognized {
			found.add(api.SeverityWarning, kindUnreadable, "Use an image of the runner that this version knows (docs/facts.md).", time.Time{}, "the log lines of runners have an unknown format, so only Bitbucket's lists say whether they are busy")
			break
		}
	}
	return found.sorted()
}

// refused reports whether Bitbucket has refused the credentials.
func refused(err error) bool {
	return errors.Is(err, bitbucket.ErrUnauthorized) || errors.Is(err, bitbucket.ErrForbidden) || errors.Is(err, bitbucket.ErrMissingScope)
}

// demandProblems says what keeps a group from what it needs.
func (t *taking) demandProblems(g *shownGroup, found *problems) {
	o, d := g.snapshot.Observation, g.decision
	since := t.reasonSince(g)
	switch {
	case d.Reason == policy.ReasonAboveMax && (o.Queued > 0 || g.snapshot.Spec.Rules.Strategy != policy.QueuedSteps && o.Idle == 0):
		found.add(api.SeverityWarning, kindAtMax, maxRemedy, since, "the group needs more than its max: %s", d.Note)
	case d.Reason == policy.ReasonRunnerLimit:
		found.add(api.SeverityWarning, kindLimit, limitRemedy, since, "%s", d.Note)
	}
	if unfinished := o.Capacity() + o.DeadWeight(); d.Target > unfinished {
		last, every := t.LastCall(g.key), t.Polling(g.key)
		paused := strings.Contains(g.snapshot.Hold, "paused")
		if paused || every > 0 && (last.IsZero() || t.now.Sub(last) > 3*every) {
			kind, remedy, format, name, jobs, words := t.notCreated(g, d.Target-unfinished)
			found.add(api.SeverityError, kind, remedy, last, format, name, jobs, words)
		}
	}
	if o.QueueUnknown != "" && g.snapshot.Spec.Rules.Strategy == policy.QueuedSteps {
		found.add(api.SeverityWarning, kindUnknown, "Until then the share of busy runners decides.", time.Time{}, "not all steps that wait can be seen: %s", o.QueueUnknown)
	}
}

// reasonSince is since when the group's decisions have had the reason of the last one.
func (t *taking) reasonSince(g *shownGroup) time.Time {
	since := g.decision.Time
	for _, past := range slices.Backward(t.Decisions.Past(g.key)) {
		if past.Reason != g.decision.Reason {
			break
		}
		since = past.Time
	}
	return since
}

// problems collects what is wrong.
type problems struct {
	group string
	all   []api.Problem
}

func (p *problems) add(severity api.Severity, kind, remedy string, since time.Time, format string, args ...any) {
	p.all = append(p.all, api.Problem{Severity: severity, Kind: kind, Group: p.group, Message: fmt.Sprintf(format, args...), Remedy: remedy, Since: at(since)})
}

// about names the repository of the problem that was added last.
func (p *problems) about(repository string) { p.all[len(p.all)-1].Repository = repository }

func (p *problems) sorted() []api.Problem {
	slices.SortStableFunc(p.all, func(a, b api.Problem) int {
		return cmp.Or(cmp.Compare(a.Severity.Rank(), b.Severity.Rank()), cmp.Compare(a.Group, b.Group), cmp.Compare(a.Kind, b.Kind))
	})
	if p.all == nil {
		return []api.Problem{}
	}
	return p.all
}

// The bounds from which the installation has a problem.
const (
	lowAllowance = 0.1 // of the calls of an hour
	expiresSoon  = 14 * 24 * time.Hour
)

// installation shows what holds for all groups.
func (t *taking) installation() api.Installation {
	shown := api.Installation{Version: t.Version, Owner: t.Owner, Leads: t.Leads(), Webhooks: t.Webhooks, Credentials: []api.Credentials{}, Certificates: []api.Certificate{}}
	if t.Leader != nil {
		shown.Leader = t.Leader()
	}
	shown.Credentials = append(shown.Credentials, t.Credentials()...)
	shown.Scopes = scopesOf(t.Scopes())
	if t.Certificates != nil {
		shown.Certificates = append(shown.Certificates, t.Certificates()...)
	}
	var found problems
	t.repositoryProblems(&shown, &found)
	t.unservedProblems(&found)
	for _, set := range shown.Credentials {
		if float64(set.Remaining) < lowAllowance*float64(set.Limit) {
			found.add(api.SeverityWarning, "AllowanceLow", stretchRemedy, time.Time{}, "credentials %q have %d of %d calls left in this hour", set.Name, set.Remaining, set.Limit)
		}
	}
	for _, c := range shown.Certificates {
		if left := c.NotAfter.Sub(t.now); left < expiresSoon {
			found.add(api.SeverityWarning, "CertificateExpiring", "See the log of the scaler for why it is not renewed, or replace your own files.", time.Time{}, "the %s certificate is valid until %s", c.Use, c.NotAfter.Format(time.RFC3339))
		}
	}
	for _, g := range t.order {
		found.all = append(found.all, g.shown.Problems...)
	}
	shown.Problems = found.sorted()
	return shown
}

// repositoryProblems shows the repositories, and those whose webhooks do not arrive.
func (t *taking) repositoryProblems(shown *api.Installation, found *problems) {
	count := map[string]int{}
	for _, p := range t.live {
		count[p.Scope.String()]++
	}
	shown.Repositories = make([]api.Repository, 0, len(t.repositories))
	for _, r := range t.repositories {
		repository := api.Repository{Name: r.In, Credentials: r.Credentials, Pipelines: count[r.Scope.String()], LastDelivery: at(r.Hooked), LookInterval: r.Interval.Seconds()}
		if r.Err != nil {
			repository.Error = r.Err.Error()
			found.add(api.SeverityWarning, "RepositoryUnreadable", "Give the credentials the scopes that docs/configure.md names, or remove the repository from the group.", time.Time{}, "the pipelines of %s cannot be read: %v", r.In, r.Err)
			found.about(r.In)
			t.readers[r.In] = t.reader(r.Scope)
		}
		if t.Webhooks && r.Hooked.IsZero() && r.Missed > 0 {
			found.add(api.SeverityWarning, "WebhooksMissing", "Set them up: runnerctl webhooks ensure. See docs/webhooks.md.", time.Time{}, "no webhook of %s has arrived for %s, so its steps are found by looking every %s", r.In, plural(r.Missed, "pipeline that runs", "pipelines that run"), t.seconds(r.Interval))
			found.about(r.In)
		}
		shown.Repositories = append(shown.Repositories, repository)
	}
}

// reader is a group that looks at a repository for steps; empty if none is known.
func (t *taking) reader(repository bitbucket.Scope) string {
	for _, g := range t.order {
		if g.shown.Strategy != string(policy.QueuedSteps) {
			continue
		}
		if key, serves := t.Fleet.Serving(repository, pipelines.Labels(g.shown.Labels)); serves {
			return key.String()
		}
	}
	return ""
}

// unservedProblems reports the steps that no group serves, once for each pipeline and labels.
func (t *taking) unservedProblems(found *problems) {
	seen := map[string]struct{}{}
	for _, u := range t.Fleet.Unserved() {
		key := u.Pipeline + " " + strings.Join(u.Labels, " ")
		if _, again := seen[key]; again {
			continue
		}
		seen[key] = struct{}{}
		var step api.Step
		t.notServed(&step, u)
		found.add(api.SeverityError, step.Why[0].Kind, step.Why[0].Remedy, u.Since, "step %q of %s build %d: %s", u.Name, u.In, u.Build, step.Why[0].Message)
	}
}

// scopesOf shows the scopes in use, each once.
func scopesOf(views scope.Views) []api.Scope {
	shown := []api.Scope{}
	ids := slices.SortedFunc(maps.Keys(views), func(a, b scope.ID) int {
		return cmp.Or(cmp.Compare(a.String(), b.String()), cmp.Compare(a.Credentials, b.Credentials))
	})
	for _, id := range ids {
		view := views[id]
		if id != view.ID {
			continue // an alias
		}
		s := api.Scope{Name: id.String(), Credentials: id.Credentials, Registered: len(view.Runners), Limit: policy.ScopeLimit, Listed: at(view.ListBegun), ListInterval: view.Interval.Seconds()}
		if view.Err != nil {
			s.Error = view.Err.Error()
		}
		shown = append(shown, s)
	}
	return shown
}
