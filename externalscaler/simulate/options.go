package simulate

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"math/rand/v2"
)

// Options say how long things take, and what they cost.
type Options struct {
	// Boot is the time from the creation of a Job until its runner is online.
	Boot Span
	// Stop is the time from the order that a runner ends until its Job is complete.
	Stop time.Duration
	// KEDA is KEDA's polling interval.
	KEDA time.Duration
	// List is the time between two lists of the runners of a scope.
	List time.Duration
	// Webhooks is true if webhooks tell the scaler of new pipelines, Webhook after they begin.
	// Without webhooks it polls.
	Webhooks bool
	Webhook  time.Duration
	// Parse is how long Bitbucket takes to parse a new pipeline.
	Parse time.Duration
	// Read is how long the scaler takes to read a pipeline.
	Read time.Duration
	// Assign is the time from Bitbucket's choice of a runner until the runner begins the step.
	Assign time.Duration
	// WaitOffline lets a step wait that finds no runner of its labels online. Bitbucket documents
	// that it fails at once.
	WaitOffline bool
	// Tail is for how long the simulation goes on after the workload.
	Tail time.Duration
	// Price is that of an hour of a runner.
	Price float64
	// Seed decides what is left to chance: which idle runner gets a step, and how long each boots.
	Seed uint64
	// Samples is how many samples over time are kept; 0 for none.
	Samples int
}

// Defaults are the times of an installation with the default settings: KEDA polls every 5 seconds, and
// runners need half a minute.
func Defaults() Options {
	return Options{
		Boot: Span{30 * time.Second, 30 * time.Second}, Stop: 5 * time.Second, KEDA: 5 * time.Second, List: time.Minute, Webhooks: true,
		Webhook: time.Second, Parse: 2 * time.Second, Read: 500 * time.Millisecond, Seed: 1,
	}
}

// Validate reports every fault at once.
func (o Options) Validate() error {
	var faults []error
	for _, d := range []struct {
		name     string
		d, least time.Duration
	}{
		{"boot", o.Boot.Least, time.Millisecond}, {"stop", o.Stop, 0}, {"polling interval", o.KEDA, time.Second}, {"list interval", o.List, time.Second},
		{"webhook delay", o.Webhook, 0}, {"parse delay", o.Parse, 0}, {"read delay", o.Read, 0}, {"assign delay", o.Assign, 0}, {"tail", o.Tail, 0},
	} {
		if d.d < d.least {
			faults = append(faults, fmt.Errorf("%s: %v, want at least %v", d.name, d.d, d.least))
		}
	}
	if o.Boot.Most < o.Boot.Least {
		faults = append(faults, fmt.Errorf("boot: %v, want the shorter time first", o.Boot))
	}
	if o.Price < 0 {
		faults = append(faults, fmt.Errorf("price per hour: %v, want at least 0", o.Price))
	}
	return errors.Join(faults...)
}

// Span is a time between two bounds.
type Span struct{ Least, Most time.Duration }

// ParseSpan reads a duration such as 30s, or two as in 20s-45s.
func ParseSpan(given string) (Span, error) {
	first, second, two := strings.Cut(given, "-")
	least, err := time.ParseDuration(strings.TrimSpace(first))
	most := least
	if two && err == nil {
		most, err = time.ParseDuration(strings.TrimSpace(second))
	}
	if err != nil || least <= 0 || most < least {
		return Span{}, fmt.Errorf("%q, want a duration above 0 such as 30s, or two as in 20s-45s", given)
	}
	return Span{least, most}, nil
}

func (s Span) String() string {
	if s.Least == s.Most {
		return s.Least.String()
	}
	return s.Least.String() + "-" + s.Most.String()
}

// draw returns a time of the span; each is as likely as any other.
func (s Span) draw(random *rand.Rand) time.Duration {
	if s.Most <= s.Least {
		return s.Least
	}
	return s.Least + time.Duration(random.Int64N(int64(s.Most-s.Least)+1))
}
