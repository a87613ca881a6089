package registrar

import (
	"fmt"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"bitbucket-runner-scaler/externalscaler/fleet"
)

// When a group counts as one whose runners crash, and how long it then waits. A runner
// that ends at once costs four or five calls to Bitbucket, and KEDA replaces its Job at
// its next poll: without a delay, one wrong image would use up the hourly budget of
// every group with the same credentials.
const (
	// crashAge is the life below which a runner that took no step has crashed.
	crashAge = 2 * time.Minute
	// crashesAllowed in a row cost nothing.
	crashesAllowed = 2
	firstDelay     = 10 * time.Second
	maxDelay       = 10 * time.Minute
	// crashMemory is how long a group without news is remembered.
	crashMemory = time.Hour
)

// crashLoops delays the registrations of groups whose runners crash. Safe for
// concurrent use.
type crashLoops struct {
	clock clock.PassiveClock

	mu     sync.Mutex
	groups map[fleet.GroupKey]*crashLoop
}

// crashLoop is what is known of one group, of one form of its ScaledJob.
type crashLoop struct {
	generation string
	crashes    int
	// last is when the last runner crashed, until when the next may register.
	last, until time.Time
}

func newCrashLoops(clock clock.PassiveClock) *crashLoops {
	return &crashLoops{clock: clock, groups: map[fleet.GroupKey]*crashLoop{}}
}

// delay is how long a group waits after so many crashes in a row.
func delay(crashes int) time.Duration {
	if crashes <= crashesAllowed {
		return 0
	}
	return min(maxDelay, firstDelay<<min(crashes-crashesAllowed-1, 10))
}

// crashLoopError says that the runners of a group crash, and when to ask again.
type crashLoopError struct {
	crashes int
	wait    time.Duration
}

func (e *crashLoopError) Error() string {
	return fmt.Sprintf("the last %d runners of the group ended within %v of their registration, without a step: the next one waits %v; see the log and the exit code of the container runner", e.crashes, crashAge, e.wait.Round(time.Second))
}

// admit returns an error if the group must wait. Of a group that has waited, one runner
// is let through to try; the others wait for as long again.
func (c *crashLoops) admit(group *fleet.GroupSnapshot) *crashLoopError {
	now := c.clock.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	loop := c.groups[group.GroupKey]
	if loop == nil {
		return nil
	}
	if loop.generation != group.Generation || works(group) || now.Sub(loop.last) > crashMemory {
		delete(c.groups, group.GroupKey)
		return nil
	}
	if wait := loop.until.Sub(now); wait > 0 {
		return &crashLoopError{crashes: loop.crashes, wait: wait}
	}
	loop.until = now.Add(delay(loop.crashes))
	return nil
}

// works reports whether a runner of a group has lived for long enough to show that
// runners of this form do not crash.
func works(group *fleet.GroupSnapshot) bool {
	for _, m := range group.Members {
		if m.Enabled() && m.Runner != nil && (m.Used || m.Age >= crashAge) {
			return true
		}
	}
	return false
}

// ended notes the end of a runner that was not told to end: a crash, unless it took a
// step or lived for long. It returns an error if the group waits from now on and did not
// before.
func (c *crashLoops) ended(group *fleet.GroupSnapshot, lived time.Duration, tookStep bool) *crashLoopError {
	now := c.clock.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, loop := range c.groups {
		if now.Sub(loop.last) > crashMemory {
			delete(c.groups, key)
		}
	}
	if tookStep || lived >= crashAge {
		delete(c.groups, group.GroupKey)
		return nil
	}
	loop := c.groups[group.GroupKey]
	if loop == nil || loop.generation != group.Generation {
		loop = &crashLoop{generation: group.Generation}
		c.groups[group.GroupKey] = loop
	}
	loop.crashes++
	loop.last = now
	wait := delay(loop.crashes)
	loop.until = now.Add(wait)
	if loop.crashes != crashesAllowed+1 {
		return nil
	}
	return &crashLoopError{crashes: loop.crashes, wait: wait}
}
