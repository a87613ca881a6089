package reaper

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/policy"
)

// asksEvery is how long a sidecar that waits for its registration is at most
// silent (jobfactory/sidecar, retryDelay).
const asksEvery = 6 * time.Minute

// endStuck deletes Jobs that have not come to a runner within the start-up limit,
// and those that were told to end and have not. The start-up clock stands still
// while the pod waits for a node or for us, and while the scope cannot be read:
// then there is no look at all.
func (r *Reaper) endStuck(ctx context.Context, group *fleet.Group) error {
	var errs []error
	for _, m := range group.Members {
		if m.Job == nil || m.Pod != nil && m.Pod.Finished {
			continue
		}
		starting := m.State == fleet.Pending && !m.Outdated
		waits := m.Pod != nil && (m.Pod.Node == "" || !m.AskedLast.IsZero() && r.config.Clock.Since(m.AskedLast) < asksEvery)
		var stuck watched
		if starting && waits {
			r.pauseWatch(m.Job.UID, "stuck")
		} else {
			stuck = r.watch(m.Job.UID, "stuck", starting, group.ListBegun)
		}
		lingering := r.watch(m.Job.UID, "lingering", m.State == fleet.Gone && !m.Terminating(), group.ListBegun)
		switch {
		case stuck.lasted >= r.config.StartLimit:
			why := removal{ReasonStuck, fmt.Sprintf("it has not asked for a runner within %v", r.config.StartLimit)}
			if !r.dry(of(group), m, why) {
				errs = append(errs, r.deleteUnregistered(ctx, of(group), m, why))
			}
		case lingering.lasted >= r.config.StartLimit:
			why := removal{ReasonStuck, fmt.Sprintf("its runner has ended, its pod has not within %v", r.config.StartLimit)}
			if !r.dry(of(group), m, why) {
				errs = append(errs, r.deleteJob(ctx, of(group), m, why))
			}
		}
	}
	return errors.Join(errs...)
}

// endUnwanted deletes Jobs without a runner that have been beyond what is wanted
// for a whole cool-down, the youngest first.
func (r *Reaper) endUnwanted(ctx context.Context, group *fleet.Group, decision policy.Decision) error {
	var pending []fleet.Member
	for _, m := range group.Members {
		if m.State == fleet.Pending && m.Job != nil && m.Runner == nil {
			pending = append(pending, m)
		}
	}
	slices.SortStableFunc(pending, func(a, b fleet.Member) int { return b.Job.CreatedOn.Compare(a.Job.CreatedOn) })
	excess := min(len(pending), max(0, decision.Observation.Capacity()-decision.Effective))
	if group.Hold != "" {
		excess = 0
	}
	var errs []error
	for i, m := range pending {
		unwanted := i < excess
		w := r.watch(m.Job.UID, "unwanted", unwanted, group.ListBegun)
		why := removal{ReasonUnwanted, fmt.Sprintf("it has no runner yet, and for %v no more than %d were wanted", group.Spec.Rules.CoolDown, decision.Effective)}
		if unwanted && w.lasted >= max(group.Spec.Rules.CoolDown, 5*r.config.Interval) && !r.dry(of(group), m, why) {
			errs = append(errs, r.deleteUnregistered(ctx, of(group), m, why))
		}
	}
	return errors.Join(errs...)
}
