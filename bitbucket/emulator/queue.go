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

// enqueue queues a pipeline of parallel steps, as the head of the main branch.
func (s *Server) enqueue(repo *repository, labels []string, duration time.Duration, count int, now time.Time) (*pipelines.Pipeline, error) {
	head := &source.Commit{}
	hash := s.push(repo, mainBranch, head, now)
	p, err := s.pipelines.Start(pipelines.Order{
		Repository: repo, Trigger: pipelines.TriggerPush, Definition: pipelines.Side(labels, duration, count),
		Target: pipelines.Target{Kind: pipelines.RefTarget, RefType: "branch", RefName: mainBranch, Commit: hash},
	}, now)
	head.Queued = p
	s.dispatch(now)
	return p, err
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

// Wait lets a step wait for a runner, if there is one for it.
func (h host) Wait(st *pipelines.Step) bool {
	if !h.server.canWait(st) {
		h.server.counters.StepsFailedNoRunner++
		return false
	}
	h.server.queue = append(h.server.queue, st)
	return true
}

// Free takes a step from its runner.
func (h host) Free(st *pipelines.Step, now time.Time) {
	if r := h.server.runners[st.Runner]; r != nil && r.running == st {
		h.server.free(r, now)
	}
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
	s.pipelines.Begin(st, now)
	st.Runner = r.uuid
	r.step, r.running = st.UUID, st
	r.stepsTaken++
	if r.stepsTaken == 2 {
		s.counters.RunnersReused++
	}
	r.stateUpdatedOn, r.updatedOn = now, now
	s.changed(r.scope, now)
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
		s.pipelines.End(st, outcome, cause, now)
	}
}

// conclude ends the runner's step with a result.
func (s *Server) conclude(r *runner, result string, now time.Time) {
	if st := s.free(r, now); st != nil {
		s.pipelines.Conclude(st, result, now)
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
			s.pipelines.End(st, OutcomeFailed, CauseQueueTimeout, now)
		}
	}
	s.pipelines.Advance(now)
	s.dispatch(now)
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
