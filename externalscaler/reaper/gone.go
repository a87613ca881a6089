package reaper

import (
	"context"
	"fmt"
	"time"

	"bitbucket-runner-scaler/externalscaler/fleet"
)

// sayNotFound reports on the ScaledJob that Bitbucket does not know the group's scope.
func (r *Reaper) sayNotFound(group *fleet.GroupSnapshot) {
	missing := group.NotFound
	if missing.Since.IsZero() {
		return
	}
	what := "workspace " + group.Spec.Workspace
	if group.Spec.Repository != "" {
		what = fmt.Sprintf("repository %s/%s", group.Spec.Workspace, group.Spec.Repository)
	}
	since := missing.Since.UTC().Format(time.RFC3339)
	if missing.Renamed {
		r.say(of(group), ReasonScopeNotFound, "", fmt.Sprintf("Bitbucket has not known the %s by this name since %s: it was renamed. The group works as before until the scaler "+
			"restarts: set the new name, or the UUID, in the trigger", what, since))
		return
	}
	r.say(of(group), ReasonScopeNotFound, "", fmt.Sprintf("Bitbucket has not known the %s since %s: it was deleted or renamed, or these credentials may no longer see it. "+
		"If it was renamed, set the new name, or the UUID, in the trigger. If it was deleted, delete the ScaledJob", what, since))
}

// endGone ends the pods of a scope that Bitbucket has not known for long: idle ones,
// whose runners it does not know either. What is busy, or not known to be idle, stays. It
// needs Config.UnsafeScaleDown: Bitbucket answers the same if only the credentials may no
// longer see the scope, and then a runner that cannot be disabled may take a step at any time.
func (r *Reaper) endGone(ctx context.Context, group *fleet.GroupSnapshot) error {
	s := sight{now: r.config.Clock.Now(), group: group, members: group.Members}
	due := r.decide(func(rules rules) []action {
		rules.observe(s)
		return rules.endGone(s)
	})
	return r.performAll(ctx, of(group), due)
}

func (r rules) endGone(s sight) []action {
	var ended []fleet.Member
	for _, m := range s.members {
		if s.group.NotFound.Gone && m.Telemetry.RunnerUUID != "" && saysIdle(m) && r.idleLongEnough(m) {
			ended = append(ended, m)
		}
	}
	return actions(confirmGone, ended, removal{ReasonScopeNotFound, "Bitbucket does not know its workspace or repository any more"})
}

// tendOrEnd tends to a group whose list is fresh enough to act on. That of a scope that is
// gone it ends if it may, and else leaves alone. It returns false if no pass has begun.
func (r *Reaper) tendOrEnd(ctx context.Context, group *fleet.GroupSnapshot) (begun bool) {
	r.sayNotFound(group)
	if group.NotFound.Gone {
		return r.config.UnsafeScaleDown && r.pass(ctx, group.GroupKey, func(ctx context.Context) error { return r.endGone(ctx, group) })
	}
	if _, err := r.config.Snapshots.Group(group.GroupKey); err != nil {
		return false // nothing current is known, so nothing is done
	}
	return r.pass(ctx, group.GroupKey, func(ctx context.Context) error { return r.tend(ctx, group.GroupKey) })
}
