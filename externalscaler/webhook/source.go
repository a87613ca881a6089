package webhook

import (
	"context"
	"net"
	"net/netip"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"
	"k8s.io/utils/clock"
)

// What one source may cost. All deliveries through an Ingress come from its address, so a
// source that sends wrong signatures may send good ones too, and the limit on wrong ones
// never refuses a good one.
const (
	sourcesKept = 4096
	// sourceBodies is how many bodies of one source are read at a time.
	sourceBodies = bodies / 2
	// failuresPerSecond and failuresAtOnce bound how many deliveries with a missing or
	// wrong signature learn why they are refused.
	failuresPerSecond, failuresAtOnce = 5, 50
	// goodPerSecond and goodAtOnce bound good deliveries. A push to a busy repository
	// makes a handful.
	goodPerSecond, goodAtOnce = 200, 2000
)

// sources knows the addresses from which deliveries come, as many as fit.
type sources struct {
	clock clock.PassiveClock
	known *lru.Cache[netip.Prefix, *source]
}

type source struct {
	clock          clock.PassiveClock
	failures, good *rate.Limiter
	bodies         chan struct{}
}

func newSources(clock clock.PassiveClock) *sources {
	known, _ := lru.New[netip.Prefix, *source](sourcesKept) // fails only for a size below 1
	return &sources{clock, known}
}

// of returns the source of a remote address. One network has all of the 2^64 addresses of
// IPv6 that share a prefix.
func (s *sources) of(remote string) *source {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		host = remote
	}
	address, _ := netip.ParseAddr(host) // an address that cannot be read is the zero value
	address = address.Unmap().WithZone("")
	bits := address.BitLen()
	if address.Is6() {
		bits = 64
	}
	key, _ := address.Prefix(bits)
	if known, ok := s.known.Get(key); ok {
		return known
	}
	made := &source{
		clock: s.clock, failures: rate.NewLimiter(failuresPerSecond, failuresAtOnce),
		good: rate.NewLimiter(goodPerSecond, goodAtOnce), bodies: make(chan struct{}, sourceBodies),
	}
	if known, ok, _ := s.known.PeekOrAdd(key, made); ok { // another delivery was faster
		return known
	}
	return made
}

// mayFail reports whether a delivery with a missing or wrong signature is within the limit.
func (s *source) mayFail() bool { return s.failures.AllowN(s.clock.Now(), 1) }

// mayDeliver reports whether a good delivery is within the limit.
func (s *source) mayDeliver() bool { return s.good.AllowN(s.clock.Now(), 1) }

// enter waits until a body of the source may be read. If it returns true, the caller calls
// leave.
func (s *source) enter(ctx context.Context) bool {
	select {
	case s.bodies <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (s *source) leave() { <-s.bodies }
