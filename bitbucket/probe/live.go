package probe

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"k8s.io/utils/clock"

	"bitbucket-runner-scaler/bitbucket"
)

// NamePrefix is the prefix of the names of all temporary runners.
const NamePrefix = "runnerctl-check-live-"

// Config configures Live.
type Config struct {
	// Client and Scope are required. Kind is the kind of the client's credentials.
	Client *bitbucket.Client
	Kind   bitbucket.Kind
	Scope  bitbucket.Scope
	// Refusals also tries registrations that Bitbucket should refuse. Each one that it
	// accepts is another temporary runner.
	Refusals bool
	// Settle is how long it may take until a write shows. Default 30 s, as for the
	// scaler's --write-settle.
	Settle time.Duration
	// Pause is the time between two polls of the same thing. Default 1 s.
	Pause time.Duration
	// Limit bounds the check. CleanLimit bounds the cleanup after it. Default 5 min and
	// 2 min.
	Limit, CleanLimit time.Duration
	// Progress is called with a description of each step. It may be nil.
	Progress func(text string)
	// Clock is the clock. nil means the real clock.
	Clock clock.Clock
}

func (c Config) withDefaults() Config {
	for _, d := range []struct {
		given *time.Duration
		value time.Duration
	}{{&c.Settle, 30 * time.Second}, {&c.Pause, time.Second}, {&c.Limit, 5 * time.Minute}, {&c.CleanLimit, 2 * time.Minute}} {
		if *d.given == 0 {
			*d.given = d.value
		}
	}
	if c.Progress == nil {
		c.Progress = func(string) {}
	}
	if c.Clock == nil {
		c.Clock = clock.RealClock{}
	}
	return c
}

// Validate reports every fault at once.
func (c Config) Validate() error {
	var faults []error
	if c.Client == nil {
		faults = append(faults, errors.New("client: missing"))
	}
	if err := c.Scope.Validate(); err != nil {
		faults = append(faults, err)
	}
	for name, d := range map[string]time.Duration{"settle": c.Settle, "pause": c.Pause, "limit": c.Limit, "clean limit": c.CleanLimit} {
		if d < 0 {
			faults = append(faults, fmt.Errorf("%s: %v, want a positive duration", name, d))
		}
	}
	return errors.Join(faults...)
}

// errStopped ends a check for a reason that its text contains.
var errStopped = errors.New("stopped")

// visit is one check.
type visit struct {
	Config
	notebook
	// name is the temporary runner's name. The names of further ones begin with it.
	name, label string
	// mine are the runners that were registered and not yet seen to be deleted, by UUID.
	mine map[string]string
	// doubtful is true if a registration without an answer may have taken effect.
	doubtful bool
	runner   shown
	earlier  []string
	// failed is the last failure that did not end the check.
	failed string
}

// Live registers one temporary runner that no step can use, checks every fact that the
// runner can show, and deletes it. It always deletes it, for at most CleanLimit, also if
// ctx ends before. Live returns an error only for an invalid configuration. The report
// says what stopped the check and which runners are left.
func Live(ctx context.Context, c Config) (Report, error) {
	if err := c.Validate(); err != nil {
		return Report{}, fmt.Errorf("check live: %w", err)
	}
	c = c.withDefaults()
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails
	id := hex.EncodeToString(random[:])
	v := &visit{Config: c, name: NamePrefix + id, label: "runnerctl.check." + id, mine: map[string]string{}}
	begun, calls := c.Clock.Now(), c.Client.Budget().Used()

	stopped := v.look(ctx)
	left := v.leaveNothing(ctx)

	looks := []Look{LookLive}
	if c.Refusals {
		looks = append(looks, LookRefusals)
	}
	reason := notReached
	if why := cmp.Or(stopped, v.failed); why != "" {
		reason += ": " + why
	}
	return Report{
		Workspace: c.Scope.Workspace, Repository: c.Scope.Repository, Credentials: string(c.Kind), Runner: v.name,
		Findings: v.fill(reason, looks...), Stopped: stopped, Left: left, Earlier: v.earlier,
		Calls: c.Client.Budget().Used() - calls, Took: c.Clock.Since(begun),
	}, nil
}

// look runs the steps of the check. If it ends early, it returns the reason.
func (v *visit) look(ctx context.Context) (stopped string) {
	limited, cancel := context.WithTimeout(ctx, v.Limit)
	defer cancel()
	steps := []struct {
		doing string
		do    func(context.Context) error
	}{
		{"listing the runners that are there", v.before},
		{"registering " + v.name, v.register},
		{"waiting for a list to show it", v.listed},
		{"reading it", v.read},
		{"disabling and enabling it", v.disable},
		{"trying other ways to disable it", v.otherWays},
		{"trying to change its labels", v.changeLabels},
		{"trying what should be refused", v.refusals},
		{"deleting it", v.remove},
	}
	for _, step := range steps {
		v.Progress(step.doing)
		err := step.do(limited)
		switch {
		case ctx.Err() != nil:
			return "interrupted"
		case limited.Err() != nil:
			return fmt.Sprintf("not done after %v", v.Limit)
		case errors.Is(err, errStopped):
			return v.clean(strings.TrimPrefix(err.Error(), errStopped.Error()+": "))
		case err != nil:
			// If one step fails, the others are still run.
			v.failed = v.clean(err.Error())
			v.Progress("that failed: " + v.failed)
		}
	}
	return ""
}

// stop returns an error that ends the check, because no later step could succeed.
func stop(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errStopped, fmt.Sprintf(format, args...))
}

// until polls until something shows, for at most Settle.
func (v *visit) until(ctx context.Context, shows func() (bool, error)) (took time.Duration, ok bool, err error) {
	begun := v.Clock.Now()
	for {
		ok, err = shows()
		took = v.Clock.Since(begun)
		if ok || err != nil || took >= v.Settle {
			return took.Round(time.Millisecond), ok, err
		}
		if !v.pause(ctx) {
			return took, false, ctx.Err()
		}
	}
}

// pause returns false if ctx has ended.
func (v *visit) pause(ctx context.Context) bool {
	timer := v.Clock.NewTimer(v.Pause)
	defer timer.Stop()
	select {
	case <-timer.C():
		return true
	case <-ctx.Done():
		return false
	}
}
