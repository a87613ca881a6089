package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"
)

// heartbeat is the time between two lines of a long step's progress.
const heartbeat = 30 * time.Second

// progress prints what is being built, how far it is and how long it has taken.
type progress struct {
	out         io.Writer
	start       time.Time
	done, total int
}

// announce prints that a step begins and returns a function that prints how it ended.
func (p *progress) announce(what string) func(result string) {
	begin := time.Now()
	say := func(verb string) {
		_, _ = fmt.Fprintf(p.out, "[%d/%d] %s %s (%s, %s in all)\n", p.done, p.total, what, verb,
			time.Since(begin).Round(time.Second), time.Since(p.start).Round(time.Second))
	}
	_, _ = fmt.Fprintf(p.out, "[%d/%d] %s ...\n", p.done, p.total, what)
	stop := make(chan struct{})
	var ended sync.WaitGroup
	ended.Go(func() {
		ticker := time.NewTicker(heartbeat)
		defer ticker.Stop()
		for {
			select {
			case <-stop:
				return
			case <-ticker.C:
				say("still going on")
			}
		}
	})
	return func(result string) {
		close(stop)
		ended.Wait()
		say(result)
	}
}

// errLocked means that another process kept a lock for the whole wait.
var errLocked = errors.New("locked by another process")

// lockFile takes an exclusive lock on a file, waiting for at most the given time; waiting is called once when it has
// to wait. Closing the file gives the lock back, the end of the process does too.
func lockFile(ctx context.Context, path string, patience time.Duration, waiting func()) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("%s for %s: %w", path, patience, errLocked))
	defer cancel()
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return file, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("locking %s: %w", path, err), file.Close())
		}
		if waiting != nil {
			waiting()
			waiting = nil
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(context.Cause(ctx), file.Close())
		case <-ticker.C:
		}
	}
}
