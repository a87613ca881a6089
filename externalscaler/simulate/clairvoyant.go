package simulate

import (
	"time"
)

// Clairvoyant knows when each step will need a runner, and has one come online at that moment. It is a
// bound, and not a scaler:
//
//   - No scaler with the same max lets steps wait less that serves them in the order in which they
//     come: a step waits only while max others run.
//   - No scaler that lets steps wait no longer than that needs less time of runners: a runner that has
//     ended a step stays for another only if waiting for it takes less than a new runner's boot, and
//     the one that became free last is taken first. It keeps no minimum and no spare runners, and
//     ends runners without delay.
//
// With several groups each step runs in the first group that serves it, so that the bound is one for
// groups whose steps no other group serves.
type Clairvoyant struct{}

func (Clairvoyant) start(w *world) driver {
	return &clairvoyant{world: w, pools: make([]pool, len(w.groups))}
}

type clairvoyant struct {
	*world
	pools []pool
}

// pool is what a clairvoyant has of a group.
type pool struct {
	running int
	// free is when each runner became free that may be used again, the last one last.
	free    []time.Time
	waiting []*step
}

// boot is how long a runner boots. It is the least, because it is a bound.
func (c *clairvoyant) boot() time.Duration { return c.Boot.Least }

func (c *clairvoyant) pool(s *step) *pool { return &c.pools[s.class.groups[0].place] }

func (c *clairvoyant) ready(s *step) bool {
	if len(s.class.groups) == 0 || s.class.groups[0].Rules.MaxRunners() == 0 {
		return true // it fails
	}
	p := c.pool(s)
	c.enqueue(&p.waiting, s)
	c.fill(p, s.class.groups[0])
	return false
}

// fill begins the steps for which there is room.
func (c *clairvoyant) fill(p *pool, g *group) {
	for len(p.waiting) > 0 && p.running < g.Rules.MaxRunners() {
		s := p.waiting[0]
		p.waiting = p.waiting[1:]
		p.running++
		c.measured.busy++
		c.measured.jobs++
		if last := len(p.free) - 1; last >= 0 && c.now.Sub(p.free[last]) <= c.boot() {
			c.count(c.now.Sub(p.free[last]), true)
			p.free = p.free[:last]
		} else {
			p.free = p.free[:0] // they became free earlier, and are of no use either
			c.launched++
			c.count(c.boot(), false)
		}
		c.start(s)
	}
}

// count counts time of runners before a step.
func (c *clairvoyant) count(d time.Duration, idle bool) {
	c.measured.runnerTime += int64(d)
	if idle {
		c.measured.idleTime += int64(d)
	}
}

func (c *clairvoyant) changed(_ *runner, s *step, what change) {
	if what != endedStep {
		return
	}
	p := c.pool(s)
	p.running--
	c.measured.jobs--
	p.free = append(p.free, c.now)
	c.fill(p, s.class.groups[0])
}

func (c *clairvoyant) over(*pipeline)     {}
func (c *clairvoyant) pipeline(*pipeline) {}
func (c *clairvoyant) settled()           {}

func (c *clairvoyant) desired() (n int) {
	for i := range c.pools {
		n += c.pools[i].running
	}
	return n
}
