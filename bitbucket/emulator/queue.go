package emulator

import (
	"crypto/sha256"
	"encoding/hex"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

const (
	// maxQueued is how long a step waits for a runner.
	maxQueued = 150 * time.Minute
	// maxRunning is how long a self-hosted step may run by default.
	maxRunning = 120 * time.Minute
	// maxOpenSteps bounds the memory.
	maxOpenSteps = 10_000
	// maxSteps is Bitbucket's limit of steps per pipeline.
	maxSteps = 100
)

// pipeline is a pipeline of parallel steps.
type pipeline struct {
	uuid, commit string
	number       int
	repository   *repository
	createdOn    time.Time
	steps        []*step
	open         int // steps that have not ended
}

type step struct {
	uuid                           string
	pipeline                       *pipeline
	labels                         []string
	duration                       time.Duration
	queuedOn, startedOn, completed time.Time
	// runner is the UUID of the runner to which it was assigned.
	runner, outcome, cause string
}

// enqueue queues a pipeline of parallel steps. A step without a matching online runner
// fails at once.
func (s *Server) enqueue(repo *repository, labels []string, duration time.Duration, count int, now time.Time) *pipeline {
	p := &pipeline{uuid: newUUID(), repository: repo, createdOn: now, open: count, number: 1}
	if n := len(s.pipelines); n > 0 {
		p.number = s.pipelines[n-1].number + 1
	}
	sum := sha256.Sum256([]byte(p.uuid))
	p.commit = hex.EncodeToString(sum[:20])
	s.pipelines = append(s.pipelines, p)
	for range count {
		st := &step{
			uuid: newUUID(), pipeline: p, labels: slices.Clone(labels), duration: duration,
			queuedOn: now, outcome: OutcomeQueued,
		}
		p.steps = append(p.steps, st)
		if !s.anyOnline(st) {
			s.counters.StepsFailedNoRunner++
			s.end(st, OutcomeFailed, CauseNoRunner, now)
			continue
		}
		s.queue = append(s.queue, st)
	}
	s.dispatch(now)
	return p
}

// eligible returns the runners that can get the step: those of its workspace and of its
// repository that have all its labels.
func eligible(st *step, visit func(*runner)) {
	repo := st.pipeline.repository
	for _, sc := range []*scope{repo.workspace.scope, repo.scope} {
		for _, r := range sc.runners {
			if r.takesSteps() && r.has(st.labels) {
				visit(r)
			}
		}
	}
}

func (s *Server) anyOnline(st *step) bool {
	found := false
	eligible(st, func(*runner) { found = true })
	return found
}

// dispatch assigns queued steps, oldest first, to runners without a step. It selects the
// runner at random, so that clients cannot rely on an order.
func (s *Server) dispatch(now time.Time) {
	s.queue = slices.DeleteFunc(s.queue, func(st *step) bool {
		if st.outcome != OutcomeQueued {
			return true
		}
		var free []*runner
		eligible(st, func(r *runner) {
			if r.step == "" {
				free = append(free, r)
			}
		})
		if len(free) == 0 {
			return false
		}
		s.assign(st, free[rand.IntN(len(free))], now) //nolint:gosec // random, but not a secret
		return true
	})
}

func (s *Server) assign(st *step, r *runner, now time.Time) {
	st.outcome, st.startedOn, st.runner = OutcomeRunning, now, r.uuid
	r.step, r.running = st.uuid, st
	r.stepsTaken++
	if r.stepsTaken == 2 {
		s.counters.RunnersReused++
	}
	r.stateUpdatedOn, r.updatedOn = now, now
	s.changed(r.scope, now)
}

// end ends a step that no runner has any more.
func (s *Server) end(st *step, outcome, cause string, now time.Time) {
	st.outcome, st.cause, st.completed = outcome, cause, now
	st.pipeline.open--
	s.ended++
	for s.ended > s.options.KeepSteps {
		i := slices.IndexFunc(s.pipelines, func(p *pipeline) bool { return p.open == 0 })
		if i < 0 || s.pipelines[i] == st.pipeline {
			return
		}
		s.ended -= len(s.pipelines[i].steps)
		s.pipelines = slices.Delete(s.pipelines, i, i+1)
	}
}

// free removes the step from a runner and returns it.
func (s *Server) free(r *runner, now time.Time) *step {
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
		if r.running != nil && now.Sub(r.running.startedOn) > maxRunning {
			s.finish(r, OutcomeFailed, CauseStepTimeout, now)
		}
	}
	for _, st := range s.queue {
		if now.Sub(st.queuedOn) > maxQueued {
			s.end(st, OutcomeFailed, CauseQueueTimeout, now)
		}
	}
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
