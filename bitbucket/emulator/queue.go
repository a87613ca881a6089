package emulator

import (
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"bitbucket-runner-scaler/bitbucket/emulator/definition"
	"bitbucket-runner-scaler/bitbucket/emulator/pipelines"
	"bitbucket-runner-scaler/bitbucket/emulator/registration"
	"bitbucket-runner-scaler/bitbucket/emulator/source"
)

const (
	// maxQueued is how long a step waits for a runner.
	maxQueued = 150 * time.Minute
	// maxRunning is how long a self-hosted step may run by default.
	maxRunning = 120 * time.Minute
	// maxOpenSteps bounds the memory.
	maxOpenSteps = 10_000
	// maxSteps is Bitbucket's limit of steps per pipeline.
	maxSteps = definition.MaxSteps
)

// home returns the repository of a step.
func home(st *pipelines.Step) *repository {
	repo, _ := st.Pipeline.Repository.(*repository) // create sets it
	return repo
}

// create adds a pipeline to its repository and gives it a build number.
func (s *Server) create(repo *repository, target pipelines.Target, trigger string, now time.Time) *pipelines.Pipeline {
	repo.builds++
	repo.updatedOn = now
	p := &pipelines.Pipeline{
		UUID: newUUID(), Number: repo.builds, Repository: repo, Target: target, Trigger: trigger, CreatedOn: now,
	}
	s.pipelines = append(s.pipelines, p)
	return p
}

// weight is what a pipeline counts for the limits of memory, also if it has no steps.
func weight(p *pipelines.Pipeline) int { return max(1, len(p.Steps)) }

// hasRoom reports whether so many more steps may be open.
func (s *Server) hasRoom(steps int) bool {
	open := steps - s.ended
	for _, p := range s.pipelines {
		open += weight(p)
	}
	return open <= maxOpenSteps
}

// enqueue queues a pipeline of parallel steps, as the head of the main branch.
func (s *Server) enqueue(repo *repository, labels []string, duration time.Duration, count int, now time.Time) *pipelines.Pipeline {
	head := &source.Commit{}
	hash := s.push(repo, mainBranch, head, now)
	p := s.create(repo, pipelines.Target{
		Kind: pipelines.RefTarget, RefType: "branch", RefName: mainBranch, Commit: hash,
	}, pipelines.TriggerPush, now)
	head.Queued = p
	p.Define(queued(labels, duration, count), newUUID)
	s.announce(p, now)
	s.proceed(p, now)
	s.dispatch(now)
	return p
}

// proceed queues the steps of a pipeline that are reached now. A step without a matching
// online runner fails at once. A step of Bitbucket's own runners runs at once.
func (s *Server) proceed(p *pipelines.Pipeline, now time.Time) {
	reached := p.Proceed(now)
	if p.Ended() {
		s.completed(p, now)
		return
	}
	for _, st := range reached {
		s.enter(st, now) // it may end, which goes on from here
	}
}

// enter lets a step that is queued wait for its lock or a runner, run, or fail.
func (s *Server) enter(st *pipelines.Step, now time.Time) {
	switch {
	case s.isLocked(st):
		st.Outcome = pipelines.Halted
	case st.Hosted():
		st.Outcome, st.StartedOn = pipelines.Running, now
		s.hosted = append(s.hosted, st)
	case s.canWait(st):
		s.queue = append(s.queue, st)
	default:
		s.counters.StepsFailedNoRunner++
		s.end(st, OutcomeFailed, CauseNoRunner, now)
	}
}

// eligible returns the runners that are ready and have all labels of the step: those of its
// workspace and of its repository.
func eligible(st *pipelines.Step, ready func(*runner) bool) []*runner {
	var found []*runner
	repo := home(st)
	for _, sc := range []*scope{repo.workspace.scope, repo.scope} {
		for _, r := range sc.runners {
			if ready(r) && registration.Serves(r.labels, st.Labels) {
				found = append(found, r)
			}
		}
	}
	return found
}

// canWait reports whether the step can wait for a runner.
func (s *Server) canWait(st *pipelines.Step) bool {
	return len(eligible(st, func(r *runner) bool { return s.options.WaitOffline || r.takesSteps() })) > 0
}

// dispatch assigns queued steps, oldest first, to runners without a step. It selects the
// runner at random, so that clients cannot rely on an order.
func (s *Server) dispatch(now time.Time) {
	s.queue = slices.DeleteFunc(s.queue, func(st *pipelines.Step) bool {
		if st.Outcome != OutcomeQueued {
			return true
		}
		free := eligible(st, func(r *runner) bool { return r.step == "" && r.takesSteps() })
		if len(free) == 0 {
			return false
		}
		s.assign(st, free[rand.IntN(len(free))], now) //nolint:gosec // random, but not a secret
		return true
	})
}

func (s *Server) assign(st *pipelines.Step, r *runner, now time.Time) {
	st.Outcome, st.StartedOn, st.Runner = OutcomeRunning, now, r.uuid
	r.step, r.running = st.UUID, st
	r.stepsTaken++
	if r.stepsTaken == 2 {
		s.counters.RunnersReused++
	}
	r.stateUpdatedOn, r.updatedOn = now, now
	s.changed(r.scope, now)
}

// sharers returns the other steps of the repository with the lock of a step.
func (s *Server) sharers(st *pipelines.Step) []*pipelines.Step {
	if st.Lock == "" {
		return nil
	}
	var found []*pipelines.Step
	for _, p := range s.pipelines {
		if p.Repository != st.Pipeline.Repository || p.Ended() {
			continue
		}
		for _, other := range p.Steps {
			if other != st && other.Lock == st.Lock {
				found = append(found, other)
			}
		}
	}
	return found
}

func (s *Server) isLocked(st *pipelines.Step) bool {
	return slices.ContainsFunc(s.sharers(st), func(other *pipelines.Step) bool {
		return other.Outcome == pipelines.Running || other.Outcome == pipelines.Queued
	})
}

// stepEnded reports the end of a step, and gives its lock to the next step.
func (s *Server) stepEnded(st *pipelines.Step, now time.Time) {
	s.reportStep(st)
	for _, next := range s.sharers(st) {
		if next.Outcome == pipelines.Halted {
			next.Outcome, next.QueuedOn = pipelines.Queued, now
			s.enter(next, now)
			return
		}
	}
}

// end ends a step that no runner has any more, and goes on with its pipeline.
func (s *Server) end(st *pipelines.Step, outcome, cause string, now time.Time) {
	st.End(outcome, cause, now)
	s.stepEnded(st, now)
	s.proceed(st.Pipeline, now)
}

// completed forgets the oldest pipelines that have ended, if too many are kept.
func (s *Server) completed(p *pipelines.Pipeline, now time.Time) {
	repo, _ := p.Repository.(*repository)
	repo.updatedOn = now
	s.pipelineEnded(p, now)
	s.ended += weight(p)
	for s.ended > s.options.KeepSteps {
		i := slices.IndexFunc(s.pipelines, (*pipelines.Pipeline).Ended)
		if i < 0 || s.pipelines[i] == p {
			return
		}
		oldest := s.pipelines[i]
		if of, ok := oldest.Repository.(*repository); ok {
			of.source.Drop(oldest.Target.Commit)
		}
		s.ended -= weight(oldest)
		s.pipelines = slices.Delete(s.pipelines, i, i+1)
	}
}

// free removes the step from a runner and returns it.
func (s *Server) free(r *runner, now time.Time) *pipelines.Step {
	st := r.running
	r.step, r.running = "", nil
	r.stateUpdatedOn, r.updatedOn = now, now
	s.changed(r.scope, now)
	return st
}

// finish ends the runner's step.
func (s *Server) finish(r *runner, outcome, cause string, now time.Time) {
	if st := s.free(r, now); st != nil {
		s.end(st, outcome, cause, now)
	}
}

// lose ends a runner's step as lost.
func (s *Server) lose(r *runner, cause string, now time.Time) {
	s.counters.StepsLost[cause]++
	s.finish(r, OutcomeFailed, cause, now)
}

// setLink changes the runner's status apart from disabling.
func (s *Server) setLink(r *runner, link string, now time.Time) {
	if r.link == link {
		return
	}
	r.link, r.stateUpdatedOn, r.updatedOn = link, now, now
	s.changed(r.scope, now)
}

// disconnect handles the loss of a runner's heartbeat.
func (s *Server) disconnect(r *runner, now time.Time) {
	s.setLink(r, statusOffline, now)
	if r.step != "" {
		s.lose(r, CauseDisconnected, now)
	}
}

// advance applies everything that has become due since the last request.
func (s *Server) advance(now time.Time) {
	for len(s.late) > 0 && !s.late[0].at.After(now) {
		next := s.late[0]
		s.late = s.late[1:]
		next.done(next.at)
	}
	for _, r := range s.runners {
		if r.connected() && !r.byHand && now.Sub(r.lastBeat) > s.options.OfflineAfter {
			s.disconnect(r, now)
		}
		if r.running != nil && now.Sub(r.running.StartedOn) > maxRunning {
			s.finish(r, OutcomeFailed, CauseStepTimeout, now)
		}
	}
	for _, st := range s.queue { // what is reached meanwhile is appended
		if st.Outcome == OutcomeQueued && now.Sub(st.QueuedOn) > maxQueued {
			s.end(st, OutcomeFailed, CauseQueueTimeout, now)
		}
	}
	s.advancePipelines(now)
	s.dispatch(now)
}

// advancePipelines reads the files of new pipelines, and ends the steps of Bitbucket's own
// runners.
func (s *Server) advancePipelines(now time.Time) {
	var parsed []*pipelines.Pipeline
	s.parsing = slices.DeleteFunc(s.parsing, func(p *pipelines.Pipeline) bool {
		due := p.Ended() || !now.Before(p.CreatedOn.Add(s.options.ParseLag))
		if due && !p.Ended() {
			parsed = append(parsed, p)
		}
		return due
	})
	for _, p := range parsed {
		p.Parsing = false
		s.proceed(p, now)
	}
	for {
		i := slices.IndexFunc(s.hosted, func(st *pipelines.Step) bool { return st.Ended() || !now.Before(st.StartedOn.Add(st.Duration)) })
		if i < 0 {
			return
		}
		st := s.hosted[i]
		s.hosted = slices.Delete(s.hosted, i, i+1)
		if !st.Ended() {
			s.end(st, OutcomePassed, "", st.StartedOn.Add(st.Duration))
		}
	}
}

// observe updates the peaks of a scope.
func (s *Server) observe(sc *scope) {
	c := &s.counters
	c.PeakRegistered[sc.name] = max(c.PeakRegistered[sc.name], len(sc.runners))
	online := map[string]int{}
	for _, w := range s.workspaces {
		for _, other := range w.scopes() {
			for _, r := range other.runners {
				if r.takesSteps() && !r.gone {
					online[r.labelSet]++
				}
			}
		}
	}
	for set, n := range online {
		c.PeakOnline[set] = max(c.PeakOnline[set], n)
	}
}

func labelSet(labels []string) string {
	return strings.Join(slices.Compact(slices.Sorted(slices.Values(labels))), ",")
}
