package controlplane

import (
	"context"
	"maps"
	"strings"
	"time"

	"go.uber.org/zap"
	"k8s.io/utils/clock"

	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/pause"
	"bitbucket-runner-scaler/externalscaler/reaper"
	"bitbucket-runner-scaler/externalscaler/status/api"
	"bitbucket-runner-scaler/externalscaler/status/view"
)

const (
	// problemInterval is the time between two looks for problems.
	problemInterval = 5 * time.Second
	// problemSight is how long a problem must have lasted before an Event tells of it.
	problemSight = 15 * time.Second
	// problemMemory is the time without a problem after which an Event tells of it again.
	problemMemory = 10 * time.Minute
	// mostProblems bounds those that are remembered.
	mostProblems = 1000
)

// told are the kinds of problems of which this tells. The reaper tells of the others, because it
// acts on them.
var told = map[string]bool{
	"ListFailing": true, "AtMax": true, "RunnerLimit": true, "QueueUnknown": true, "WebhooksMissing": true, "RepositoryUnreadable": true, "HeldByLock": true,
}

// problemReport tells the users of each ScaledJob, by Events, what keeps its steps from running.
type problemReport struct {
	look   func() *view.Picture
	groups func() []fleet.ScaledJob
	events reaper.Events // nil without a cluster
	log    *zap.Logger
}

// problemKey names a problem. about is a repository or step, empty for the group.
type problemKey struct{ group, kind, about string }

type sighting struct {
	since, last time.Time
	told        bool
}

func (r problemReport) run(ctx context.Context) {
	if r.events == nil {
		return
	}
	seen := map[problemKey]*sighting{}
	for pause.For(ctx, clock.RealClock{}, problemInterval, nil) {
		now := time.Now()
		for key, message := range problemsOf(r.look()) {
			s := seen[key]
			if s == nil {
				if len(seen) >= mostProblems {
					continue
				}
				s = &sighting{since: now}
				seen[key] = s
			}
			s.last = now
			if !s.told && now.Sub(s.since) >= problemSight {
				s.told = true
				r.tell(key, message)
			}
		}
		for key, s := range seen {
			if quiet := now.Sub(s.last); quiet > problemMemory || !s.told && quiet > 0 {
				delete(seen, key)
			}
		}
	}
}

// problemsOf are the problems of which Events tell, with their messages.
func problemsOf(p *view.Picture) map[problemKey]string {
	found := map[problemKey]string{}
	add := func(group, kind, about, message string) {
		if group != "" && told[kind] {
			found[problemKey{group, kind, about}] = message
		}
	}
	groups := map[string]string{} // one that serves steps of a repository
	maps.Copy(groups, p.Readers)  // no step is known of what was never read
	for _, s := range p.Steps {
		if s.Group != "" && groups[s.Repository] == "" {
			groups[s.Repository] = s.Group
		}
		if s.State == api.StepHeld && len(s.Why) > 0 {
			add(s.Group, s.Why[0].Kind, s.UUID, stepTitle(s)+": "+s.Why[0].Message)
		}
	}
	for _, problem := range p.Installation.Problems {
		group := problem.Group
		if problem.Repository != "" {
			group = groups[problem.Repository]
		}
		message := problem.Message
		if problem.Remedy != "" {
			message += ". " + problem.Remedy
		}
		add(group, problem.Kind, problem.Repository, message)
	}
	return found
}

func stepTitle(s api.Step) string { return s.Repository + " step " + s.Name }

func (r problemReport) tell(key problemKey, message string) {
	namespace, name, _ := strings.Cut(key.group, "/")
	for _, s := range r.groups() {
		if s.Namespace == namespace && s.Name == name {
			r.log.Warn("a problem of a runner group", zap.String("group", key.group), zap.String("kind", key.kind), zap.String("message", message))
			r.events.Event(s.GroupKey, s.UID, reaper.Event{Reason: key.kind, Message: message, Warning: true})
			return
		}
	}
}
