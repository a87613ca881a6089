package reaper

import (
	"fmt"
	"time"

	"go.uber.org/zap"

	"bitbucket-runner-scaler/externalscaler/crashloop"
	"bitbucket-runner-scaler/externalscaler/fleet"
)

// subject is the ScaledJob that a member belongs to; only its namespace is known if
// it was deleted.
type subject struct {
	fleet.GroupKey
	uid string
}

func of(group *fleet.GroupSnapshot) subject {
	return subject{GroupKey: group.GroupKey, uid: group.UID}
}

// withoutGroup is the subject of a pod whose ScaledJob was deleted.
func withoutGroup(namespace string) subject {
	return subject{GroupKey: fleet.GroupKey{Namespace: namespace}}
}

// saidKey names what is reported to the users of a group once, until it changes.
type saidKey struct {
	group  fleet.GroupKey
	reason string
	about  string
}

// sayUnrecognized tells the users once that log lines are not understood.
func (r *Reaper) sayUnrecognized(group *fleet.GroupSnapshot) {
	for _, m := range group.Members {
		if m.Telemetry.Unrecognized {
			r.say(of(group), ReasonUnrecognized, "", "the log lines of runners have an unknown format: only Bitbucket's lists say whether they are busy; if those show no steps, such runners are not removed")
			return
		}
	}
}

// sayStretched tells the users once that their scope is listed less often than
// configured. The interval in force changes too often to be part of the message.
func (r *Reaper) sayStretched(group *fleet.GroupSnapshot) {
	if group.ListsStretched {
		r.say(of(group), ReasonListsStretched, "", fmt.Sprintf("credentials %q serve so many scopes or runners that each scope is listed less often than --poll-interval says, so that their hourly budget of calls lasts: changes that only Bitbucket knows are seen later; /status shows the interval as listIntervalSeconds", group.Spec.Credentials))
	}
}

// sayDry says in a dry run what would be done, once for each runner or Job.
func (r *Reaper) sayDry(s subject, a action) {
	if a.kind == stop {
		return // it was said when the runner would have been disabled
	}
	about := a.member.Name
	if a.member.Job != nil {
		about = a.member.Job.Name
	}
	r.say(s, ReasonDryRun, about, fmt.Sprintf("%s would be ended: %s", nameOf(a.member), a.why))
}

// nameOf names a member for its users: its Job, and its runner if it has had one.
func nameOf(m fleet.Member) string {
	registered := m.Name != "" && (m.Runner != nil || m.Telemetry.RunnerUUID != "")
	switch {
	case m.Job == nil:
		return "runner " + m.Name
	case registered:
		return fmt.Sprintf("runner %s of Job %s", m.Name, m.Job.Name)
	}
	return "Job " + m.Job.Name
}

// waitSight is how long a Job must have waited before an Event says why: a node may be on
// its way. waitMemory is the time before the same Event is written again.
const (
	waitSight  = 15 * time.Second
	waitMemory = 10 * time.Minute
)

// sayWaiting tells the users of a group why its Jobs do not come to a runner, once for
// each of Kubernetes' reasons: the messages of several Jobs differ in their names alone.
func (r *Reaper) sayWaiting(s sight) {
	for _, m := range s.members {
		cause := m.Waits()
		if m.Job == nil || cause.Reason == "" {
			continue
		}
		key := saidKey{group: s.group.GroupKey, reason: ReasonWaiting, about: cause.Reason}
		r.mu.Lock()
		lasts := r.rules.memory.get(m.Job.UID, waiting).lasted >= waitSight
		_, told := r.waits[key]
		if lasts {
			r.waits[key] = s.now
		}
		r.mu.Unlock()
		if lasts && !told {
			message := fmt.Sprintf("Job %s does not come to a runner: %v", m.Job.Name, cause)
			r.log.Warn("a Job does not come to a runner", zap.Stringer("group", s.group.GroupKey), zap.String("job", m.Job.Name), zap.String("cause", cause.String()))
			r.event(of(s.group), ReasonWaiting, m.Job, message)
		}
	}
}

// The Event of a crash loop waits for the status of the failed pod to show the cause,
// and is repeated while the loop lasts: Kubernetes keeps an Event for an hour.
const (
	causeWait = 15 * time.Second
	loopAgain = time.Hour
)

// sayCrashLoop tells the users of a group that its Jobs keep failing, and why.
func (r *Reaper) sayCrashLoop(s sight) {
	if r.config.CrashLoops == nil {
		return
	}
	state := r.config.CrashLoops.State(s.group)
	r.mu.Lock()
	last, told := r.loops[s.group.GroupKey]
	due := state.Loops() && (!told || s.now.Sub(last) >= loopAgain) && (state.Cause.Reason != "" || s.now.Sub(state.On) >= causeWait)
	switch {
	case due:
		r.loops[s.group.GroupKey] = s.now
	case !state.Loops():
		delete(r.loops, s.group.GroupKey)
	}
	r.mu.Unlock()
	if due {
		r.log.Warn("the Jobs of a group keep failing", zap.Stringer("group", s.group.GroupKey), zap.Int("failures", state.Failures), zap.String("cause", state.Cause.String()), zap.String("lastLine", state.LastLine))
		r.event(of(s.group), ReasonCrashLoop, nil, fmt.Sprintf("%v: one is tried after a delay, which grows to %v and ends with a runner that works or a change of the ScaledJob", state, crashloop.MaxDelay))
	}
}

// removed reports a member that was ended.
func (r *Reaper) removed(s subject, m fleet.Member, why removal) {
	r.config.Count(why.reason)
	uuid, job := "", ""
	if m.Runner != nil {
		uuid = m.Runner.UUID
	}
	if m.Job != nil {
		job = m.Job.Name
	}
	r.log.Info("runner ended", zap.Stringer("group", s), zap.String("job", job), zap.String("runner", uuid), zap.String("reason", why.reason), zap.String("why", why.why))
	r.event(s, why.reason, m.Job, fmt.Sprintf("%s was ended: %s", nameOf(m), why.why))
}

// say tells a group's users something once, until it is something else.
func (r *Reaper) say(s subject, reason, about, message string) {
	key := saidKey{group: s.GroupKey, reason: reason, about: about}
	r.mu.Lock()
	known := r.said[key] == message
	r.said[key] = message
	r.mu.Unlock()
	if known {
		return
	}
	r.log.Warn("an Event is written for the users of a ScaledJob", zap.Stringer("group", s), zap.String("reason", reason), zap.String("message", message))
	r.event(s, reason, nil, message)
}

// event tells the users of a ScaledJob something, and those of a Job that it is about.
func (r *Reaper) event(s subject, reason string, job *fleet.Job, message string) {
	if r.config.Events != nil && s.uid != "" {
		r.config.Events.Event(s.GroupKey, s.uid, Event{Reason: reason, Message: message, Warning: !orderly(reason), Job: job})
	}
}
