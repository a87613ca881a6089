// Package clock gives processes a clock of their own: one that runs a whole number
// of times as fast as the machine's, and whose wall part can be stepped while they
// run. Programs are built for it from unchanged sources, with an overlay of a few
// lines over Go's runtime, so that every timer, deadline and timestamp in them
// follows; without the variable that names the clock they run as any other.
//
// All processes that share a clock agree on both its readings. Each clock is a
// small file that the runtime maps into memory.
package clock

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Variable is the environment variable that names the clock's file.
const Variable = "CHAOS_CLOCK"

// The file holds four int64 in the machine's byte order, as the runtime's patch
// reads them.
const (
	wallAt = 8 * iota
	monotonicAt
	rateAt
	stepAt
	size
)

// Clock is a clock of this kind, as seen from outside. Safe for concurrent use
// but for Step and Close, which one goroutine may call.
type Clock struct {
	path   string
	rate   int64
	origin time.Time // both clocks agreed then
	memory []byte
}

// New makes a clock in a new file; it agrees with the machine's now, and runs rate
// times as fast from then on.
func New(path string, rate int) (*Clock, error) {
	if rate < 1 {
		return nil, fmt.Errorf("clock's rate: %d, want 1 or more", rate)
	}
	// Whole seconds, so that times of the API, which are whole too, have an exact
	// counterpart.
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return nil, fmt.Errorf("read the machine's clock: %w", err)
	}
	wall := time.Now()
	origin := wall.Truncate(time.Second)
	monotonic := now.Nano() - int64(wall.Sub(origin))
	content := make([]byte, size)
	put := func(at int, value int64) { binary.NativeEndian.PutUint64(content[at:], uint64(value)) }
	put(wallAt, origin.UnixNano())
	put(monotonicAt, monotonic)
	put(rateAt, int64(rate))
	if err := os.WriteFile(path, content, 0o600); err != nil {
		return nil, fmt.Errorf("write clock: %w", err)
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("open clock: %w", err)
	}
	memory, err := unix.Mmap(int(file.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err := errors.Join(err, file.Close()); err != nil {
		return nil, fmt.Errorf("map clock: %w", err)
	}
	return &Clock{path: path, rate: int64(rate), origin: origin, memory: memory}, nil
}

// Twin makes a clock in another file that agrees with this one until it is stepped.
func (c *Clock) Twin(path string) (*Clock, error) {
	twin, err := New(path, int(c.rate))
	if err != nil {
		return nil, err
	}
	copy(twin.memory[:stepAt], c.memory)
	twin.origin = c.origin
	return twin, nil
}

// Step sets how far the wall part is off. Monotonic readings, and so timers, do
// not see it, as they do not when a machine's clock is set.
func (c *Clock) Step(off time.Duration) {
	binary.NativeEndian.PutUint64(c.memory[stepAt:], uint64(off))
}

// Environment is the entry that gives a process this clock.
func (c *Clock) Environment() string { return Variable + "=" + c.path }

// Rate is how many times as fast it runs.
func (c *Clock) Rate() int { return int(c.rate) }

// Real is how long a time of this clock takes on the machine's.
func (c *Clock) Real(d time.Duration) time.Duration { return d / time.Duration(c.rate) }

// Shown is what this clock shows, unstepped, when the machine's shows t.
func (c *Clock) Shown(t time.Time) time.Time {
	return c.origin.Add(t.Sub(c.origin) * time.Duration(c.rate))
}

// Machine is what the machine's clock shows when this one, unstepped, shows t.
func (c *Clock) Machine(t time.Time) time.Time {
	return c.origin.Add(t.Sub(c.origin) / time.Duration(c.rate))
}

// Close gives the memory back. Processes that use the clock keep it.
func (c *Clock) Close() error {
	if err := unix.Munmap(c.memory); err != nil {
		return fmt.Errorf("unmap clock: %w", err)
	}
	return nil
}
