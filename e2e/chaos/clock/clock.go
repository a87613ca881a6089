// Package clock provides clocks for processes. Such a clock runs at an integer multiple of
// the machine's rate, and its wall part can be stepped while the processes run. The
// programs are built from unchanged sources with a small overlay of Go's runtime, so that
// every timer, deadline and timestamp uses the clock. Without the variable that names the
// clock, they run normally.
//
// All processes that share a clock read the same times. Each clock is a small file that
// the runtime maps into memory.
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

// The file contains four int64 in the machine's byte order, as the patch of the runtime
// reads them.
const (
	wallAt = 8 * iota
	monotonicAt
	rateAt
	stepAt
	size
)

// Clock is the control of such a clock. It is safe for concurrent use, except Step and
// Close, which only one goroutine may call.
type Clock struct {
	path   string
	rate   int64
	origin time.Time // when both clocks showed the same time
	memory []byte
}

// New makes a clock in a new file. It shows the machine's time now, and from then on runs
// rate times as fast.
func New(path string, rate int) (*Clock, error) {
	if rate < 1 {
		return nil, fmt.Errorf("clock's rate: %d, want 1 or more", rate)
	}
	// Use whole seconds, so that the API's times, which are whole seconds, have an exact
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

// Twin makes a clock in another file that shows the same time until it is stepped.
func (c *Clock) Twin(path string) (*Clock, error) {
	twin, err := New(path, int(c.rate))
	if err != nil {
		return nil, err
	}
	copy(twin.memory[:stepAt], c.memory)
	twin.origin = c.origin
	return twin, nil
}

// Step sets the offset of the wall part. It does not affect monotonic readings and timers,
// as when a machine's clock is set.
func (c *Clock) Step(off time.Duration) {
	binary.NativeEndian.PutUint64(c.memory[stepAt:], uint64(off))
}

// Environment returns the environment variable that gives a process this clock.
func (c *Clock) Environment() string { return Variable + "=" + c.path }

// Rate returns how many times faster the clock runs.
func (c *Clock) Rate() int { return int(c.rate) }

// Real converts a duration of this clock to the machine's clock.
func (c *Clock) Real(d time.Duration) time.Duration { return d / time.Duration(c.rate) }

// Shown returns this clock's time, without steps, when the machine's clock shows t.
func (c *Clock) Shown(t time.Time) time.Time {
	return c.origin.Add(t.Sub(c.origin) * time.Duration(c.rate))
}

// Machine returns the machine's time when this clock, without steps, shows t.
func (c *Clock) Machine(t time.Time) time.Time {
	return c.origin.Add(t.Sub(c.origin) / time.Duration(c.rate))
}

// Close releases the memory. Processes that use the clock keep it.
func (c *Clock) Close() error {
	if err := unix.Munmap(c.memory); err != nil {
		return fmt.Errorf("unmap clock: %w", err)
	}
	return nil
}
