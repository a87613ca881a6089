package simulate

import (
	"fmt"
	"slices"
	"time"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/policy"
	"bitbucket-runner-scaler/externalscaler/reaper"
	"bitbucket-runner-scaler/externalscaler/scope"
)

// Ours is the scaler of this project, with KEDA.
type Ours struct{}

// lookEvery is how often the scaler looks at its groups if nothing happens.
const lookEvery = 5 * time.Second

func (Ours) start(w *world) driver {
	s := &scaler{world: w, limits: fleet.Config{StartLimit: fleet.StartLimit, LostAfter: fleet.LostAfter}}
	for _, g := range w.groups {
		snapshot := &fleet.GroupSnapshot{
			GroupKey: fleet.GroupKey{Namespace: g.Namespace, Name: g.Name}, Spec: g.Group.Group,
			Scope: scope.ID{Credentials: g.Credentials, Scope: bitbucket.Scope{Workspace: g.Workspace, Repository: g.Repository}},
		}
		s.groups = append(s.groups, &scaled{group: g, snapshot: snapshot})
	}
	s.waits = newWaits(w, s)
	s.every(w.KEDA, func() {
		for _, g := range s.groups {
			s.create(g)
		}
	})
	s.every(w.List, s.list)
	s.every(lookEvery, func() {
		for _, g := range s.groups {
			g.look = g.look || g.restless(w.now)
		}
	})
	return s
}

// scaler is what the control plane and KEDA do.
type scaler struct {
	*world
	limits fleet.Config
	groups []*scaled
	waits  *waits
	dirty  bool
}

// scaled is what the scaler knows of a group.
type scaled struct {
	*group
	snapshot *fleet.GroupSnapshot
	// members are the runners of the snapshot's members, in their order.
	members  []*runner
	window   policy.Window
	decision policy.Decision
	// look is true if the group must be looked at again although nothing is known to have changed.
	look bool
}

// rules are those in force at some time.
func (g *scaled) rules(at time.Time) policy.Rules { return g.snapshot.Spec.At(at).Rules }

// restless reports whether time alone may change what is decided for the group, or done.
func (g *scaled) restless(now time.Time) bool {
	d := g.decision
	return d.Effective != d.Desired || d.Surplus() > 0 || d.Rules.Ephemeral || g.snapshot.Spec.LookAhead > 0 || d.Rules != g.rules(now)
}

// every does something again and again, beginning now.
func (s *scaler) every(interval time.Duration, do func()) {
	var again func()
	again = func() {
		do()
		s.after(interval, again)
	}
	s.after(0, again)
}

// create does what KEDA does at a poll: it creates the Jobs that are missing to the target.
func (s *scaler) create(g *scaled) {
	if s.dirty || g.look {
		s.decide(g)
	}
	missing := min(g.decision.Target, g.rules(s.now).MaxRunners()) - len(g.runners)
	for range missing {
		r := s.launch(g.group)
		name := fmt.Sprintf("%s-%d", g.Name, r.number)
		m := fleet.Member{Job: &fleet.Job{UID: name, CreatedOn: s.now}, Name: name, Scope: g.snapshot.Scope}
		g.snapshot.Members, g.members = append(g.snapshot.Members, m), append(g.members, r)
		s.dirty = true
	}
}

func (g *scaled) member(r *runner) *fleet.Member {
	return &g.snapshot.Members[slices.Index(g.members, r)]
}

// report takes what a runner's sidecar reports.
func (s *scaler) report(g *scaled, m *fleet.Member, next fleet.Telemetry) {
	next.Attached, next.Since = true, s.now
	m.Telemetry = m.Telemetry.Then(next)
	s.classify(g, m)
}

// classify works out what a member counts as, as the fleet does when it builds a snapshot.
func (s *scaler) classify(g *scaled, m *fleet.Member) {
	m.State = s.limits.Classify(m, true, m.ListBegun, s.now)
	m.Used = m.Used || m.Telemetry.Activity == fleet.ActivityBusy
	switch resting := m.State == fleet.Idle || m.State == fleet.Replaced; {
	case !resting:
		m.IdleSince = time.Time{}
	case m.IdleSince.IsZero():
		m.IdleSince = s.now
	}
	g.look, s.dirty = true, true
}

// changed implements driver.
func (s *scaler) changed(r *runner, step *step, what change) {
	g := s.groups[r.group.place]
	if what == isGone {
		at := slices.Index(g.members, r)
		g.snapshot.Members, g.members = slices.Delete(g.snapshot.Members, at, at+1), slices.Delete(g.members, at, at+1)
		s.dirty = true
		return
	}
	m := g.member(r)
	next := fleet.Telemetry{RunnerUUID: m.Name, Activity: fleet.ActivityIdle}
	switch what {
	case wasRegistered:
		m.Runner = &bitbucket.Runner{UUID: m.Name, Name: m.Name, CreatedOn: s.now, State: bitbucket.RunnerState{Status: bitbucket.StatusUnregistered}}
		next.Activity = fleet.ActivityStarting
	case beganStep:
		next.Activity, next.StepUUID = fleet.ActivityBusy, step.id()
	}
	s.report(g, m, next)
	switch what {
	case beganStep:
		s.waits.begun(step)
	case endedStep:
		s.waits.ended(step)
		if r.disabled {
			s.end(g, r, m)
		}
	}
}

// list lists the runners of each scope.
func (s *scaler) list() {
	listed := map[scope.ID]bool{}
	for _, g := range s.groups {
		if !listed[g.snapshot.Scope] {
			s.measured.call("list runners", 1)
		}
		listed[g.snapshot.Scope] = true
		for i, r := range g.members {
			m := &g.snapshot.Members[i]
			if m.Runner == nil || r.gone {
				continue
			}
			shown := *m.Runner
			shown.State = bitbucket.RunnerState{Status: bitbucket.StatusUnregistered}
			switch {
			case r.disabled:
				shown.State.Status = bitbucket.StatusDisabled
			case r.online:
				shown.State.Status = bitbucket.StatusOnline
			}
			if r.step != nil {
				shown.State.Step = &bitbucket.Step{UUID: r.step.id()}
				s.waits.listed(r.step)
			}
			m.Runner, m.ListBegun = &shown, s.now
			s.classify(g, m)
		}
	}
}

// settled implements driver.
func (s *scaler) settled() {
	for range 10 { // what is done about one group can change another
		again := s.dirty
		s.dirty = false
		for _, g := range s.groups {
			if again || g.look {
				g.look = false
				s.decide(g)
				s.retire(g)
			}
		}
		if !s.dirty {
			return
		}
	}
}

// decide applies the rules to a group.
func (s *scaler) decide(g *scaled) {
	s.observe()
	g.snapshot.Spec = g.snapshot.Spec.At(s.now)
	g.decision = policy.Decide(g.snapshot.Spec.Rules, &g.window, g.snapshot.Observation, s.now)
}

// retire does what the reaper does about runners that are not needed online.
func (s *scaler) retire(g *scaled) {
	if !g.decision.Rules.Ephemeral && g.decision.Surplus() == 0 {
		return
	}
	for i := range g.snapshot.Members {
		if m := &g.snapshot.Members[i]; m.Runner != nil {
			m.Age = s.now.Sub(m.Runner.CreatedOn)
		}
	}
	for _, due := range reaper.Retire(s.now, g.snapshot, g.decision) {
		at := slices.IndexFunc(g.snapshot.Members, func(m fleet.Member) bool { return m.Name == due.Member })
		m := &g.snapshot.Members[at]
		switch due.Kind {
		case reaper.Replace:
			g.snapshot.Replace(at)
		case reaper.Keep:
			g.snapshot.Keep(at)
		case reaper.Disable:
			r := g.members[at]
			s.disable(r)
			s.measured.call("disable", 1)
			s.measured.call("read runner", 1)
			shown := *m.Runner
			shown.State.Status = bitbucket.StatusDisabled
			m.Runner = &shown
			if r.step == nil {
				s.end(g, r, m)
			}
		}
		s.classify(g, m)
	}
}

// end orders a runner to end.
func (s *scaler) end(g *scaled, r *runner, m *fleet.Member) {
	m.StoppingSince = s.now
	s.classify(g, m)
	s.remove(r)
	s.measured.call("delete runner", 1)
}

// desired implements driver.
func (s *scaler) desired() (n int) {
	for _, g := range s.groups {
		n += g.decision.Effective
	}
	return n
}

// observe makes the observations of all groups, if anything has changed since the last time.
func (s *scaler) observe() {
	s.reserve()
	for i, a := range s.waits.answers() {
		o := &s.groups[i].snapshot.Observation
		o.Queued, o.Predicted, o.Begun, o.QueuePending, o.QueueUnknown = a.Queued, a.Predicted, a.Begun, a.Pending, a.Unknown
	}
}

// reserve counts the members, and what other groups of a scope have and will take.
func (s *scaler) reserve() {
	scopes := map[scope.ID][]*scaled{}
	for _, g := range s.groups {
		g.snapshot.Observation = g.snapshot.Count()
		scopes[g.snapshot.Scope] = append(scopes[g.snapshot.Scope], g)
	}
	for _, sharing := range scopes {
		registered, waiting, needs := make([]int, len(sharing)), make([]int, len(sharing)), make([]int, len(sharing))
		all := 0
		for i, g := range sharing {
			for _, m := range g.snapshot.Members {
				switch {
				case m.Runner != nil && m.State != fleet.Gone:
					registered[i]++
				case m.State == fleet.Pending || m.State == fleet.Starting:
					waiting[i]++
				}
			}
			all += registered[i]
			needs[i] = max(0, g.rules(s.now).MinRunners()-g.snapshot.Observation.Capacity())
		}
		for i, reserved := range fleet.ReservedByOthers(policy.ScopeLimit-all, waiting, needs) {
			sharing[i].snapshot.Observation.OtherRegistered, sharing[i].snapshot.Observation.OtherReserved = all-registered[i], reserved
		}
	}
}
