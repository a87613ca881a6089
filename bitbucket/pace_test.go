package bitbucket

import (
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"testing"
	"time"

	testclock "k8s.io/utils/clock/testing"
)

// hours plays a budget minute by minute. lists is how many lists per hour are wanted, and
// each minute as many are made as the pace allows. others returns how many other calls
// are tried in a minute.
type hours struct {
	*Budget
	clock *testclock.FakePassiveClock
	lists float64
	due   float64
	// refusedLists counts lists that were refused. factors are the factors in force, by
	// minute.
	refusedLists, refusedOthers int
	factors                     []float64
}

func newHours(limit int, lists float64) *hours {
	clk := testclock.NewFakePassiveClock(time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC))
	return &hours{Budget: NewBudget(limit, DefaultReserve, clk), clock: clk, lists: lists}
}

func (h *hours) play(minutes int, others func(minute int) int) {
	for m := range minutes {
		h.clock.SetTime(h.clock.Now().Add(time.Minute))
		factor := h.Pace(h.lists)
		h.factors = append(h.factors, factor)
		for range others(m) {
			if h.take(ClassRegistration) != nil {
				h.refusedOthers++
			}
		}
		for h.due += h.lists / 60 / factor; h.due >= 1; h.due-- {
			if h.take(ClassList) != nil {
				h.refusedLists++
			}
		}
	}
}

func (h *hours) last() float64 { return h.factors[len(h.factors)-1] }

func none(int) int { return 0 }

func TestPaceSettlesAtWhatTheHourAllows(t *testing.T) {
	for name, tt := range map[string]struct {
		scopes, othersPerMinute int
	}{
		"one scope": {1, 0}, "14 scopes": {14, 0}, "20 scopes": {20, 0}, "100 scopes": {100, 0},
		"20 scopes beside 300 other calls per hour": {20, 5}, "100 scopes beside 660 other calls per hour": {100, 11},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHours(1000, float64(60*tt.scopes))
			h.play(360, func(int) int { return tt.othersPerMinute })
			want, _ := steadyPace(1000, h.lists, float64(60*tt.othersPerMinute))
			if got := h.last(); math.Abs(got/want-1) > 0.1 {
				t.Errorf("factor %.2f, want %.2f", got, want)
			}
			if h.refusedLists+h.refusedOthers > 0 {
				t.Errorf("%d lists and %d other calls were refused", h.refusedLists, h.refusedOthers)
			}
			highest := 0.0
			for _, factor := range h.factors[120:] {
				highest = max(highest, factor)
			}
			if highest > 1.25*want {
				t.Errorf("factor %.2f at times, want about %.2f at all times", highest, want)
			}
		})
	}
}

func TestStretchIsTheFactorInForce(t *testing.T) {
	h := newHours(1000, 100*60)
	if got := h.Stretch(); got != 1 {
		t.Errorf("before the first list: got %v, want 1", got)
	}
	h.play(120, none)
	if got := h.Stretch(); got != h.last() || got < 2 {
		t.Errorf("got %v, want %v", got, h.last())
	}
}

func TestReserveServesABurstOfRegistrationsBesideListsThatUseAllTheRest(t *testing.T) {
	h := newHours(1000, 1200)
	h.play(120, none)
	before := h.last()
	h.play(60, func(minute int) int {
		if minute == 0 {
			return 100
		}
		return 0
	})
	if h.refusedOthers+h.refusedLists > 0 {
		t.Errorf("%d registrations and %d lists were refused", h.refusedOthers, h.refusedLists)
	}
	for i, factor := range h.factors[120:] {
		if factor > 3*before {
			t.Errorf("factor %.2f in minute %d after the burst, %.2f before", factor, i, before)
		}
	}
}

func TestRegistrationsNeverStarveLists(t *testing.T) {
	h := newHours(1000, 1200)
	h.play(300, func(int) int { return 100 })
	want, _ := steadyPace(1000, 1200, 6000)
	if got := h.last(); h.refusedLists > 0 || got > want*1.05 {
		t.Errorf("%d lists were refused, factor %.2f, want none and %.2f", h.refusedLists, got, want)
	}
	if calls := h.hour(h.minute()); calls[ClassRegistration] < 700 {
		t.Errorf("%d other calls in the last hour, want about 800", calls[ClassRegistration])
	}
}

func TestListsGoOnAfterABurstThatUsedAllThatIsLeftToOthers(t *testing.T) {
	h := newHours(1000, 1200)
	h.play(1, func(int) int { return 2000 })
	if got, want := h.Pace(1200), 1200/200.0; got != want {
		t.Errorf("factor %.2f, want %.2f: a fifth of the budget is left to lists", got, want)
	}
}

func TestBudgetLearnsFromAnswers(t *testing.T) {
	refusal := func(h *hours, header http.Header) { h.learn(http.StatusTooManyRequests, header, time.Second) }
	t.Run("429 without Retry-After", func(t *testing.T) {
		h := newHours(1000, 600)
		h.play(120, none)
		if got := h.last(); got != 1 {
			t.Fatalf("factor %.2f, want 1", got)
		}
		left := h.Remaining()
		for i, want := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second} {
			refusal(h, http.Header{})
			if got := h.paused(); got != want {
				t.Errorf("pause %d is %s, want %s", i, got, want)
			}
			if after := h.Remaining(); after != left/2 {
				t.Errorf("%d of %d calls remain after a refusal, want half", after, left)
			}
			left = h.Remaining()
			var limited *RateLimitedError
			if err := h.check(ClassRegistration); !errors.As(err, &limited) || limited.RetryAfter != want {
				t.Errorf("got %v, want a *RateLimitedError that tells how long to wait", err)
			}
		}
		if got := h.Pace(600); got <= 1 {
			t.Errorf("factor %.2f, want longer intervals", got)
		}
		h.learn(http.StatusOK, http.Header{}, time.Second)
		h.play(61, none)
		if got := h.last(); got != 1 {
			t.Errorf("factor %.2f after an hour, want 1", got)
		}
	})
	t.Run("429 with Retry-After", func(t *testing.T) {
		h := newHours(1000, 600)
		refusal(h, http.Header{"Retry-After": {"90"}})
		if got := h.paused(); got != 90*time.Second {
			t.Errorf("pause %s, want 90s", got)
		}
	})
	t.Run("a call that succeeds ends the doubling", func(t *testing.T) {
		h := newHours(1000, 600)
		refusal(h, http.Header{})
		refusal(h, http.Header{})
		h.clock.SetTime(h.clock.Now().Add(time.Minute))
		h.learn(http.StatusOK, http.Header{}, time.Second)
		refusal(h, http.Header{})
		if got := h.paused(); got != time.Second {
			t.Errorf("pause %s, want 1s", got)
		}
	})
	t.Run("the limit is near", func(t *testing.T) {
		h := newHours(1000, 600)
		h.learn(http.StatusOK, http.Header{"X-Ratelimit-Nearlimit": {"true"}}, time.Second)
		if got := h.Remaining(); got != 200 {
			t.Errorf("%d remain, want 200", got)
		}
	})
	t.Run("a limit", func(t *testing.T) {
		h := newHours(1000, 600)
		for _, answer := range []struct {
			status int
			limit  string
			want   int
		}{
			{http.StatusOK, "500", 500},
			{http.StatusBadGateway, "60", 500}, // a proxy's
			{http.StatusOK, "many", 500},
			{http.StatusOK, "700", 700},
			{http.StatusOK, "9000", 1000}, // no more than was configured
			{http.StatusTooManyRequests, "400", 400},
		} {
			h.learn(answer.status, http.Header{"X-Ratelimit-Limit": {answer.limit}}, time.Second)
			if got := h.Limit(); got != answer.want {
				t.Errorf("limit %d after %+v", got, answer)
			}
		}
		h.clock.SetTime(h.clock.Now().Add(61 * time.Minute))
		if got := h.Limit(); got != 1000 {
			t.Errorf("limit %d an hour later, want the configured one", got)
		}
	})
	t.Run("a Retry-After that is far away", func(t *testing.T) {
		for _, value := range []string{"86400", "Fri, 31 Dec 2100 23:59:59 GMT"} {
			h := newHours(1000, 600)
			header := http.Header{"Retry-After": {value}}
			refusal(h, header)
			if h.paused() != time.Hour || retryAfter(header, h.clock.Now()) != time.Hour {
				t.Errorf("%s: pause %s, the caller waits %s; want an hour", value, h.paused(), retryAfter(header, h.clock.Now()))
			}
		}
	})
}

func TestUsageSurvivesARestart(t *testing.T) {
	h := newHours(1000, 600)
	h.play(90, func(int) int { return 2 })
	h.learn(http.StatusTooManyRequests, http.Header{}, time.Second)
	h.learn(http.StatusOK, http.Header{}, time.Second)
	text, err := json.Marshal(h.Usage())
	if err != nil {
		t.Fatal(err)
	}
	var kept Usage
	if err := json.Unmarshal(text, &kept); err != nil {
		t.Fatal(err)
	}
	h.clock.SetTime(h.clock.Now().Add(10 * time.Minute))
	restarted := NewBudget(1000, DefaultReserve, h.clock)
	if err := restarted.take(ClassList); err != nil {
		t.Fatal(err)
	}
	for range 2 { // a process that was the leader before has counted the calls itself
		restarted.Restore(kept)
		if got, want := restarted.Used(), h.Used()+1; got != want || want < 300 {
			t.Errorf("used %d, want %d", got, want)
		}
	}
	if got, want := restarted.Pace(600), h.Pace(600); math.Abs(got/want-1) > 0.3 {
		t.Errorf("factor %.2f, want about %.2f", got, want)
	}
	restarted.Restore(Usage{nil, {1, 2}, {restarted.minute() + 5, 9, 9, 9, 9, 9}, {restarted.minute(), -9, 0, 0, 0, 0}})
	if got, want := restarted.Used(), h.Used()+1; got != want {
		t.Errorf("used %d after rows that are not understood, want %d", got, want)
	}
}

// The regular reads of the queue take two thirds of what lists, the reserve and other calls leave,
// for hours, and the rest remains for reads that something asks for.
func TestReadsOfTheQueueTakeWhatListsLeave(t *testing.T) {
	for name, c := range map[string]struct {
		lists, wanted float64
		most          int // reads per hour
	}{
		"few reads":      {60, 100, 100},
		"many reads":     {60, 5000, 840 * 2 / 3},
		"many lists too": {600, 5000, 300 * 2 / 3},
		"no room":        {2000, 5000, 0},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHours(1000, c.lists)
			h.play(120, none)
			reads, hinted, due := 0, 0, 0.0
			for range 120 {
				factor := h.PaceReads(c.wanted)
				if c.most == 0 && !math.IsInf(factor, 1) {
					t.Fatalf("factor %g, want no reads", factor)
				}
				for due += c.wanted / 60 / factor; due >= 1; due-- {
					if h.take(ClassQueue) == nil {
						reads++
					}
				}
				if c.most > 0 && h.take(ClassQueue) == nil {
					hinted++
				}
				h.play(1, none)
			}
			if perHour := reads / 2; perHour > c.most+5 || float64(perHour) < 0.7*float64(c.most) {
				t.Errorf("%d reads per hour, want about %d", perHour, c.most)
			}
			if c.most > 0 && hinted < 110 {
				t.Errorf("%d of 120 reads for hints were possible", hinted)
			}
			if h.refusedLists > 0 || c.lists <= 600 && h.last() > 1.01 {
				t.Errorf("%d lists refused, factor %g: reads took calls from lists", h.refusedLists, h.last())
			}
		})
	}
}
