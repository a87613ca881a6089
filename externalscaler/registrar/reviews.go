package registrar

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"
	"google.golang.org/grpc/peer"
	"k8s.io/utils/clock"
)

// Bounds of reviews. A sidecar presents one token at each call, so a review of it is
// good for a few seconds. Worthless tokens cost the peer that sends them, and nobody
// else.
const (
	// reviewedFor is as long as the API server itself remembers a token.
	reviewedFor = 10 * time.Second
	reviewsKept = 10_000
	// peerReviews is how many reviews of one peer run at a time; others wait.
	peerReviews = 16
	// peerFailures is how many tokens of one peer may be refused in a row, and then one
	// per second.
	peerFailures = 20
	peersKept    = 10_000
)

// errTooManyRefused says that a peer has sent too many worthless tokens.
var errTooManyRefused = errors.New("too many tokens of this peer were refused")

// reviews asks a TokenReviewer, remembers its answers for a short time, and bounds what
// a peer can make it do. Safe for concurrent use.
type reviews struct {
	reviewer TokenReviewer
	clock    clock.PassiveClock
	known    *lru.Cache[[sha256.Size]byte, reviewed]
	peers    *lru.Cache[string, *peerReview]
}

// reviewed is the answer to one token: err is nil or an ErrToken.
type reviewed struct {
	identity Identity
	err      error
	at       time.Time
}

// peerReview is what one peer makes the reviewer do.
type peerReview struct {
	running  chan struct{}
	failures *rate.Limiter
}

func newReviews(reviewer TokenReviewer, clock clock.PassiveClock) *reviews {
	r := &reviews{reviewer: reviewer, clock: clock}
	r.known, _ = lru.New[[sha256.Size]byte, reviewed](reviewsKept) // fails only for a size below 1
	r.peers, _ = lru.New[string, *peerReview](peersKept)
	return r
}

// remembered returns the answer to a token that was given a short time ago.
func (r *reviews) remembered(key [sha256.Size]byte) (reviewed, bool) {
	known, ok := r.known.Get(key)
	return known, ok && r.clock.Since(known.at) < reviewedFor
}

// review returns the pod that a token is bound to. Errors: ErrToken, errTooManyRefused,
// or why it could not be reviewed.
func (r *reviews) review(ctx context.Context, token string) (Identity, error) {
	key := sha256.Sum256([]byte(token))
	if known, ok := r.remembered(key); ok {
		return known.identity, known.err
	}
	from := r.peer(ctx)
	select {
	case from.running <- struct{}{}:
		defer func() { <-from.running }()
	case <-ctx.Done():
		return Identity{}, fmt.Errorf("wait for other reviews of this peer: %w", ctx.Err())
	}
	if known, ok := r.remembered(key); ok { // reviewed while this call waited
		return known.identity, known.err
	}
	if from.failures.Tokens() < 1 {
		return Identity{}, errTooManyRefused
	}
	identity, err := r.reviewer.Review(ctx, token)
	refused := errors.Is(err, ErrToken)
	if refused {
		from.failures.Allow()
	}
	if err == nil || refused {
		r.known.Add(key, reviewed{identity, err, r.clock.Now()})
	}
	return identity, err
}

// peer is what is known of the caller's address.
func (r *reviews) peer(ctx context.Context) *peerReview {
	address := ""
	if from, ok := peer.FromContext(ctx); ok {
		address = from.Addr.String()
		if host, _, err := net.SplitHostPort(address); err == nil {
			address = host
		}
	}
	if known, ok := r.peers.Get(address); ok {
		return known
	}
	made := &peerReview{running: make(chan struct{}, peerReviews), failures: rate.NewLimiter(1, peerFailures)}
	if known, ok, _ := r.peers.PeekOrAdd(address, made); ok { // another call of the peer was faster
		return known
	}
	return made
}
