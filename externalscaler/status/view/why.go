package view

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/policy"
	"bitbucket-runner-scaler/externalscaler/status/api"
)

// The reasons about groups. Each is also the kind of a problem, and has a section in
// docs/troubleshoot.md.
const (
	kindFaulty      = "GroupFaulty"
	kindCrashLoop   = "CrashLoop"
	kindAtMax       = "AtMax"
	kindLimit       = "RunnerLimit"
	kindHeld        = "ScaleDownHeld"
	kindPaused      = "Paused"
	kindStarting    = "Starting"
	kindNotCreated  = "JobNotCreated"
	kindIdle        = "RunnerIdle"
	kindListFailing = "ListFailing"
	kindStretched   = "ListsStretched"
	kindUnknown     = "QueueUnknown"
	kindLost        = "RunnersLost"
	kindNotFound    = "ScopeNotFound"
	kindUnreadable  = "UnrecognizedOutput"
)

// why says why a step that waits for a runner of a group has none, the nearest cause first.
func (t *taking) why(g *shownGroup) (why []api.Reason) {
	add := func(kind, remedy, format string, args ...any) {
		why = append(why, api.Reason{Kind: kind, Message: fmt.Sprintf(format, args...), Remedy: remedy})
	}
	if g.decided != nil {
		add(kindFaulty, faultyRemedy, "no runner is started for %s, because no decision can be made: %v", g.key, g.decided)
		return why
	}
	o, d := g.snapshot.Observation, g.decision
	if o.Idle > 0 && o.Idle >= o.Queued { // else they may be for other steps
		add(kindIdle, "", "%s: Bitbucket should give it the step within seconds", plural(o.Idle, "runner of "+g.key.String()+" is idle", "runners of "+g.key.String()+" are idle"))
	}
	for _, w := range waits(g.snapshot.Members) {
		add(waitKind(w.cause), waitRemedies[waitKind(w.cause)], "%s of %s: %v", plural(w.jobs, "Job does not come to a runner", "Jobs do not come to a runner"), g.key, w.cause)
	}
	if g.crash.Loops() {
		add(kindCrashLoop, crashRemedy, "the Jobs of %s keep failing, and the next one is tried in %s: %v", g.key, t.seconds(g.crash.Wait), g.crash)
	}
	if coming := o.Pending + o.Starting; coming > 0 && len(why) == 0 {
		add(kindStarting, "", "%s for %s, the oldest for %s", plural(coming, "runner starts", "runners start"), g.key, t.seconds(t.now.Sub(oldestComing(g.snapshot.Members))))
	}
	switch d.Reason {
	case policy.ReasonAboveMax:
		add(kindAtMax, maxRemedy, "%s is at its max of %d: %s", g.key, d.Rules.MaxRunners(), d.Note)
	case policy.ReasonRunnerLimit:
		add(kindLimit, limitRemedy, "%s: %s", g.key, d.Note)
	}
	if unfinished := o.Capacity() + o.DeadWeight(); d.Target > unfinished {
		add(t.notCreated(g, d.Target-unfinished))
	}
	if g.snapshot.ListsStretched {
		add(kindStretched, stretchRemedy, "credentials %q have few calls left, so Bitbucket is asked only every %s", g.snapshot.Spec.Credentials, t.seconds(g.snapshot.ListInterval))
	}
	if len(why) == 0 {
		add(kindStarting, "", "a runner of %s should take it: %s", g.key, d.Note)
	}
	return why
}

// notCreated says why Jobs that are wanted do not exist yet: KEDA has not asked, or is paused.
func (t *taking) notCreated(g *shownGroup, missing int) (kind, remedy, format string, name fleet.GroupKey, jobs, words string) {
	jobs = plural(missing, "Job more", "Jobs more")
	if strings.Contains(g.snapshot.Hold, "paused") {
		return kindPaused, "Remove the annotation autoscaling.keda.sh/paused from the ScaledJob.", "%s needs %s, but %s", g.key, jobs, g.snapshot.Hold
	}
	last, every := t.LastCall(g.key), t.Polling(g.key)
	switch {
	case last.IsZero():
		words = "KEDA has not asked since this replica began to lead"
	case every > 0 && t.now.Sub(last) > 3*every:
		words = fmt.Sprintf("KEDA has not asked for %s, though it should every %s", t.seconds(t.now.Sub(last)), t.seconds(every))
	default:
		return kindNotCreated, "", "%s needs %s, which KEDA creates at its next poll, %s", g.key, jobs, within(every)
	}
	return kindNotCreated, "Look at the log of KEDA's operator and at the conditions of the ScaledJob.", "%s needs %s, but %s", g.key, jobs, words
}

func within(every time.Duration) string {
	if every <= 0 {
		return "soon"
	}
	return "within " + every.String()
}

// waitingJobs is why some Jobs of a group do not come to a runner.
type waitingJobs struct {
	cause fleet.Cause
	jobs  int
}

// waits returns why members do not come to a runner, by Kubernetes' reasons.
func waits(members []fleet.Member) (all []waitingJobs) {
	for _, m := range members {
		cause := m.Waits()
		if cause.Reason == "" {
			continue
		}
		i := slices.IndexFunc(all, func(w waitingJobs) bool { return w.cause.Reason == cause.Reason })
		if i < 0 {
			i, all = len(all), append(all, waitingJobs{cause: cause})
		}
		all[i].jobs++
	}
	slices.SortFunc(all, func(a, b waitingJobs) int { return cmp.Compare(a.cause.Reason, b.cause.Reason) })
	return all
}

// The kinds of what keeps Jobs from coming to a runner.
const (
	kindImage     = "ImagePull"
	kindQuota     = "Quota"
	kindNoNode    = "Unschedulable"
	kindContainer = "ContainerNotStarted"
	kindWaiting   = "JobWaiting"
	kindRefused   = "RegistrationRefused"
)

// waitKind is the kind of a cause in Kubernetes' words.
func waitKind(c fleet.Cause) string {
	switch {
	case c.Reason == fleet.RegistrationRefused:
		return kindRefused
	case strings.Contains(c.Reason, "Image"):
		return kindImage
	case c.Reason == "Unschedulable":
		return kindNoNode
	case strings.Contains(c.Message, "exceeded quota"):
		return kindQuota
	case c.CannotStart:
		return kindContainer
	}
	return kindWaiting
}

// The remedies. Commands are in docs/troubleshoot.md.
const (
	faultyRemedy  = "Correct what the message names: the trigger of the ScaledJob, the credentials set, or the workspace."
	crashRemedy   = "Read the log of a failed runner: runnerctl logs NAMESPACE/GROUP."
	maxRemedy     = "Raise max of the group if this happens often, or wait until a runner is free."
	limitRemedy   = "Bitbucket registers at most 100 runners in a workspace or repository: remove other runners, or spread the groups over repositories."
	stretchRemedy = "Give busy groups a credentials set of their own, use workspace runners instead of one scope per repository, or raise --poll-interval."
)

var waitRemedies = map[string]string{
	kindImage:     "Correct the image of the group or its imagePullSecrets, and see whether nodes reach the registry.",
	kindQuota:     "Raise the ResourceQuota of the namespace, or lower max or the requests of the group.",
	kindNoNode:    "Add nodes, or correct the requests, nodeSelector and tolerations of the group.",
	kindContainer: "Look at the container: kubectl describe pod.",
	kindWaiting:   "Look at the Job: kubectl describe job.",
	kindRefused:   "Correct the credentials set if they are refused: runnerctl check credentials says what they lack.",
}

// oldestComing is when the oldest Job was created whose runner is not online yet.
func oldestComing(members []fleet.Member) (oldest time.Time) {
	for _, m := range members {
		if (m.State == fleet.Pending || m.State == fleet.Starting) && m.Job != nil && (oldest.IsZero() || m.Job.CreatedOn.Before(oldest)) {
			oldest = m.Job.CreatedOn
		}
	}
	return oldest
}

// seconds shows a duration to people.
func (t *taking) seconds(d time.Duration) string { return max(0, d).Round(time.Second).String() }

// plural is a count with its noun and verb.
func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
