package registrar

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"

	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

// counting is a reviewer that counts, and takes some time.
type counting struct {
	asked, running, peak atomic.Int64
	takes                time.Duration
	err                  error
}

func (c *counting) Review(ctx context.Context, token string) (Identity, error) {
	c.asked.Add(1)
	if n := c.running.Add(1); n > c.peak.Load() {
		c.peak.Store(n)
	}
	defer c.running.Add(-1)
	select {
	case <-time.After(c.takes):
	case <-ctx.Done():
		return Identity{}, ctx.Err()
	}
	if c.err != nil {
		return Identity{}, c.err
	}
	if token != "good" {
		return Identity{}, ErrToken
	}
	return Identity{PodUID: "uid"}, nil
}

// from makes a context of a call from an address.
func from(ctx context.Context, host string) context.Context {
	return peer.NewContext(ctx, &peer.Peer{Addr: &net.TCPAddr{IP: net.ParseIP(host), Port: 1}})
}

func TestWorthlessTokensCostOnlyThePeerThatSendsThem(t *testing.T) {
	api := &counting{takes: time.Millisecond}
	r := newReviews(api, clock.RealClock{})
	var flood sync.WaitGroup
	var refused atomic.Int64
	for i := range 2000 {
		flood.Go(func() {
			if _, err := r.review(from(t.Context(), "10.0.0.1"), fmt.Sprint("garbage ", i)); errors.Is(err, errTooManyRefused) {
				refused.Add(1)
			}
		})
	}
	for range 3 {
		if id, err := r.review(from(t.Context(), "10.0.0.2"), "good"); err != nil || id.PodUID != "uid" {
			t.Errorf("a good token of another peer during the flood: got %v, %v", id, err)
		}
	}
	flood.Wait()
	// Those that were running when the last of the allowed ones failed, and one per second.
	if n := api.asked.Load(); n > peerFailures+peerReviews+20 {
		t.Errorf("%d reviews for 2,000 worthless tokens of one peer", n)
	}
	if n := api.peak.Load(); n > peerReviews+1 {
		t.Errorf("%d reviews at a time, want at most %d and the good one", n, peerReviews)
	}
	if refused.Load() == 0 {
		t.Error("nothing was refused without a review")
	}
}

func TestATokenIsReviewedOnceForAShortTime(t *testing.T) {
	api := &counting{}
	clk := clocktesting.NewFakeClock(time.Now())
	r := newReviews(api, clk)
	for range 10 {
		for _, token := range []string{"good", "bad"} {
			if _, err := r.review(t.Context(), token); (err == nil) != (token == "good") {
				t.Errorf("%s: got %v", token, err)
			}
		}
	}
	if n := api.asked.Load(); n != 2 {
		t.Errorf("%d reviews of two tokens, want 2", n)
	}
	clk.Step(reviewedFor)
	if _, err := r.review(t.Context(), "good"); err != nil || api.asked.Load() != 3 {
		t.Errorf("later: got %v after %d reviews, want a third", err, api.asked.Load())
	}
}

func TestAReviewThatFailsIsRepeatedAndCountsAgainstNobody(t *testing.T) {
	api := &counting{err: errors.New("the API server is away")}
	r := newReviews(api, clock.RealClock{})
	for range 2 * peerFailures {
		if _, err := r.review(t.Context(), "good"); !errors.Is(err, api.err) {
			t.Fatalf("got %v", err)
		}
	}
	api.err = nil
	if _, err := r.review(t.Context(), "good"); err != nil {
		t.Errorf("once the API server is back: got %v", err)
	}
}

func TestASidecarOfAnAbusedPeerIsToldWhenToAskAgain(t *testing.T) {
	r, _ := start(t)
	ctx := from(t.Context(), "10.0.0.1")
	var last error
	for i := range peerFailures + 1 {
		_, last = r.Register(with(ctx, fmt.Sprint("garbage ", i)), &runnerv1.RegisterRequest{})
	}
	if status.Code(last) != codes.ResourceExhausted {
		t.Errorf("got %v, want %v", last, codes.ResourceExhausted)
	}
}
