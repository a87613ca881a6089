package reaper

import (
	"fmt"

	"go.uber.org/zap"

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
	r.say(s, ReasonDryRun, about, fmt.Sprintf("runner %s of Job %s would be ended: %s", a.member.Name, about, a.why))
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
	r.event(s, why.reason, fmt.Sprintf("runner %s of Job %s was ended: %s", m.Name, job, why.why))
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
	r.event(s, reason, message)
}

func (r *Reaper) event(s subject, reason, message string) {
	if r.config.Events != nil && s.uid != "" {
		r.config.Events.Event(s.GroupKey, s.uid, reason, message)
	}
}
