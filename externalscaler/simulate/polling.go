package simulate

import (
	"time"

	"bitbucket-runner-scaler/externalscaler/queue"
)

// forgottenAfter is how long a repository that no group names is polled after its last pipeline.
const forgottenAfter = 30 * time.Minute

// polled is a repository that is polled.
type polled struct {
	live    int
	touched time.Time
	unknown []*watched
	own     bool
	planned bool
	// plan numbers the lists, because one that is made sooner takes the place of the planned one.
	plan int
	// followed is true if it is listed regularly. A runner that reports a pipeline of another one has it
	// listed at once.
	followed bool
	listedAt time.Time
}

func (q *waits) repository(name string) *polled {
	r := q.repositories[name]
	if r == nil {
		r = &polled{}
		q.repositories[name] = r
	}
	return r
}

// poll plans the next list of a repository, unless one is planned.
func (q *waits) poll(r *polled) {
	if r.planned {
		return
	}
	interval := queue.PollInterval(r.live > 0, r.own)
	if q.Webhooks {
		interval = queue.HookedInterval
	}
	at := r.listedAt.Add(interval)
	if r.listedAt.IsZero() || at.Before(q.now) { // lists of a repository where nothing happens are not simulated
		at = q.now.Add(interval - q.now.Sub(q.load.Start.Add(-warmUp))%interval)
	}
	q.listAt(r, at)
}

// listAt has a repository listed at some time, and not at the time that was planned before.
func (q *waits) listAt(r *polled, at time.Time) {
	r.planned = true
	r.plan++
	plan := r.plan
	q.events.plan(at, func() {
		if plan == r.plan {
			q.listPipelines(r)
		}
	})
}

// listPipelines lists the live pipelines of a repository.
func (q *waits) listPipelines(r *polled) {
	r.planned, r.listedAt = false, q.now
	q.measured.call("list pipelines", 1)
	for _, p := range r.unknown {
		q.after(max(0, p.At.Add(q.Parse).Sub(q.now))+q.Read, func() { q.read(p) })
	}
	r.unknown = nil
	if r.followed = r.live > 0 || !q.Webhooks && (r.own || q.now.Sub(r.touched) < forgottenAfter); r.followed {
		q.poll(r)
	}
}
