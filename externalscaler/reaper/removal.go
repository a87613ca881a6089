package reaper

import (
	"context"
	"errors"
	"fmt"

	"go.uber.org/zap"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/fleet"
)

// Reasons of a removal, for metrics and Events.
const (
	ReasonSurplus     = "Surplus"
	ReasonEphemeral   = "Ephemeral"
	ReasonOutdated    = "Outdated"
	ReasonMaxAge      = "MaxAge"
	ReasonTerminating = "Terminating"
	ReasonLost        = "Lost"
	ReasonForgotten   = "Forgotten"
	ReasonUnwanted    = "Unwanted"
	ReasonStuck       = "Stuck"
	ReasonOrphan      = "Orphan"
	// ReasonDisabled: disabled by somebody else, or before this process led.
	ReasonDisabled = "Disabled"
	// ReasonUnrecognized: the runner's log lines are not understood; it stays.
	ReasonUnrecognized = "UnrecognizedOutput"
	// ReasonDisableUnsupported: Bitbucket refuses to disable, so nothing is retired.
	ReasonDisableUnsupported = "DisableUnsupported"
)

// removal is why a runner was disabled.
type removal struct{ reason, why string }

// leaving is a runner that was disabled.
type leaving struct {
	removal
	// neverOnline is true where it had not come online within the start-up limit, which
	// its status, DISABLED, does not show any more.
	neverOnline bool
}

// subject is the ScaledJob that a member belongs to; only its namespace is known
// where it was deleted.
type subject struct {
	fleet.GroupKey
	uid string
}

func of(group *fleet.Group) subject { return subject{GroupKey: group.GroupKey, uid: group.UID} }

// saidKey names what is told to the users of a group once, until it changes.
type saidKey struct {
	group  fleet.GroupKey
	reason string
	about  string
}

// disable makes a runner take no new step, and remembers why it leaves. It reports
// false where Bitbucket cannot, or the runner is gone.
func (r *Reaper) disable(ctx context.Context, s subject, m fleet.Member, why removal) (disabled bool, err error) {
	err = m.Scope.Disable(ctx, *m.Runner)
	switch {
	case errors.Is(err, bitbucket.ErrNotFound):
		m.Scope.Hint()
		return false, nil
	case errors.Is(err, bitbucket.ErrDisableUnsupported):
		return false, err
	case err != nil:
		return false, fmt.Errorf("disable runner %s of %s: %w", m.Runner.UUID, s.GroupKey, err)
	}
	r.mu.Lock()
	if _, known := r.leaving[m.Runner.UUID]; !known {
		r.leaving[m.Runner.UUID] = leaving{why, m.Runner.State.Status == bitbucket.StatusUnregistered && m.Age > r.config.StartLimit}
	}
	r.mu.Unlock()
	if m.Pod != nil {
		r.config.Sidecars.Drain(m.Pod.UID, why.why)
	}
	m.Scope.Hint() // one list for the whole batch shows what each does by then
	r.log.Info("runner disabled", zap.Stringer("group", s), zap.String("runner", m.Runner.UUID), zap.String("name", m.Name), zap.String("reason", why.reason))
	return true, nil
}

// refused tells the users once that Bitbucket cannot disable.
func (r *Reaper) refused(s subject) {
	r.say(s, ReasonDisableUnsupported, "", "Bitbucket refuses to disable runners, so none is retired; --unsafe-scale-down would retire them at the risk of a step")
}

// tellUnrecognized tells the users once that log lines are not understood.
func (r *Reaper) tellUnrecognized(group *fleet.Group) {
	for _, m := range group.Members {
		if m.Telemetry.Unrecognized {
			r.say(of(group), ReasonUnrecognized, "", "log lines of runners are of a format that is not known: only Bitbucket's lists tell whether they are busy; where those show no steps, such runners are not removed")
			return
		}
	}
}

// stop tells a member's sidecar to end its runner, and counts it.
func (r *Reaper) stop(s subject, m fleet.Member, why removal) {
	if m.Pod == nil || !r.config.Sidecars.Stop(m.Pod.UID, why.why) {
		return
	}
	r.removed(s, m, why)
}

// removed tells of a member that was ended.
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

// deleteJob ends a member whose sidecar cannot be told, or whose Job never came to
// a runner. The caller has made sure that it has no step.
func (r *Reaper) deleteJob(ctx context.Context, s subject, m fleet.Member, why removal) error {
	if m.Job == nil || r.config.Jobs == nil {
		return nil
	}
	if err := r.config.Jobs.DeleteJob(ctx, m.Job.Namespace, m.Job.Name, m.Job.UID); err != nil {
		return fmt.Errorf("delete Job %s/%s: %w", m.Job.Namespace, m.Job.Name, err)
	}
	if m.Pod != nil {
		r.config.Fleet.Tell(m.Pod.UID)
	}
	r.removed(s, m, why)
	return nil
}

// deleteUnregistered deletes a Job that has no runner, making sure that it gets
// none meanwhile: registrations in the scope wait.
func (r *Reaper) deleteUnregistered(ctx context.Context, s subject, m fleet.Member, why removal) error {
	if err := m.Scope.Lock(ctx); err != nil {
		return err
	}
	defer m.Scope.Unlock()
	if err := m.Scope.Writable(); err != nil {
		return err
	}
	for _, runner := range m.Scope.Runners() {
		if m.Name != "" && runner.Name == m.Name {
			return nil // it has one by now
		}
	}
	return r.deleteJob(ctx, s, m, why)
}

// dry says in a dry run what would be done, once for each runner or Job.
func (r *Reaper) dry(s subject, m fleet.Member, why removal) bool {
	if !r.config.DryRun {
		return false
	}
	about := m.Name
	if m.Job != nil {
		about = m.Job.Name
	}
	r.say(s, "DryRun", about, fmt.Sprintf("runner %s of Job %s would be ended: %s", m.Name, about, why.why))
	return true
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
	r.log.Warn("the ScaledJob's users are told", zap.Stringer("group", s), zap.String("reason", reason), zap.String("message", message))
	r.event(s, reason, message)
}

func (r *Reaper) event(s subject, reason, message string) {
	if r.config.Events != nil && s.uid != "" {
		r.config.Events.Event(s.GroupKey, s.uid, reason, message)
	}
}
