package bitbucket

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestRepeatableCallsAreRetriedAndRegistrationIsNot(t *testing.T) {
	faults := map[string]struct {
		fail func(t *testing.T, w http.ResponseWriter)
		// want is the error of a repeatable call, wantCreate of a registration.
		want, wantCreate error
		createTries      int
	}{
		"500":             {func(_ *testing.T, w http.ResponseWriter) { w.WriteHeader(500) }, ErrUnavailable, ErrOutcomeUnknown, 1},
		"503":             {func(_ *testing.T, w http.ResponseWriter) { w.WriteHeader(503) }, ErrUnavailable, ErrOutcomeUnknown, 1},
		"429":             {func(_ *testing.T, w http.ResponseWriter) { w.WriteHeader(429) }, ErrRateLimited, ErrRateLimited, 3},
		"connection lost": {hangUp, ErrUnavailable, ErrOutcomeUnknown, 1},
		"body cut off": {func(_ *testing.T, w http.ResponseWriter) {
			w.Header().Set("Content-Length", "1000")
			answer(w, 200, `{"uuid":`)
		}, ErrUnavailable, ErrOutcomeUnknown, 1},
	}
	for fault, tc := range faults {
		for name := range everyCall(nil) {
			t.Run(fault+"/"+name, func(t *testing.T) {
				rec := serve(t, func(w http.ResponseWriter, _ *http.Request, _ int) { tc.fail(t, w) })
				err := everyCall(rec.client(t, nil))[name](t.Context())
				want, tries := tc.want, 3
				if name == "create" {
					want, tries = tc.wantCreate, tc.createTries
				}
				if !errors.Is(err, want) {
					t.Errorf("got %v, want %v", err, want)
				}
				if name == "create" && errors.Is(err, ErrUnavailable) {
					t.Errorf("a registration was taken for safe to repeat: %v", err)
				}
				if got := len(rec.seen()); got != tries {
					t.Errorf("%d tries, want %d", got, tries)
				}
			})
		}
	}
}

func TestCallsSucceedAfterTheFaultEnds(t *testing.T) {
	for name := range everyCall(nil) {
		t.Run(name, func(t *testing.T) {
			rec := serve(t, func(w http.ResponseWriter, r *http.Request, number int) {
				switch {
				case number < 3:
					w.WriteHeader(http.StatusTooManyRequests)
				case name == "list":
					answer(w, http.StatusOK, page("", 0))
				case name == "resolve":
					answer(w, http.StatusOK, `{"uuid":"`+workspaceUUID+`"}`)
				default:
					answer(w, http.StatusOK, runnerJSON(runnerUUID))
				}
			})
			if err := everyCall(rec.client(t, nil))[name](t.Context()); err != nil {
				t.Error(err)
			}
			seen := rec.seen()
			if len(seen) != 3 || seen[0] != seen[2] {
				t.Errorf("want three equal requests, got %v", seen)
			}
		})
	}
}

func TestRegistrationIsRepeatedIfItWasNotSent(t *testing.T) {
	rec := serve(t, func(w http.ResponseWriter, _ *http.Request, _ int) { answer(w, http.StatusOK, runnerJSON(runnerUUID)) })
	var dials atomic.Int32
	c := rec.client(t, func(cfg *Config) {
		cfg.Transport = &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if dials.Add(1) < 3 {
				return nil, errors.New("connection refused")
			}
			return (&net.Dialer{}).DialContext(ctx, network, addr)
		}}
	})
	if _, err := c.CreateRunner(t.Context(), acme, NewRunner{Name: "r"}); err != nil {
		t.Error(err)
	}
	if got := len(rec.seen()); got != 1 {
		t.Errorf("%d registrations arrived, want 1", got)
	}
}

func TestRegistrationThatWasNotSentHasAKnownOutcome(t *testing.T) {
	rec := serve(t, func(http.ResponseWriter, *http.Request, int) {})
	c := rec.client(t, nil)
	rec.Close()
	_, err := c.CreateRunner(t.Context(), acme, NewRunner{Name: "r"})
	if !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrOutcomeUnknown) {
		t.Errorf("got %v, want ErrUnavailable alone", err)
	}
}

func TestRegistrationWithoutAUsableAnswerHasAnUnknownOutcome(t *testing.T) {
	for name, body := range map[string]string{
		"cut off":     `{"uuid":"{a}","oauth_client":{"id":"id","secret":"runner-secret-value`,
		"no uuid":     `{"name":"r"}`,
		"no secret":   `{"uuid":"{a}","oauth_client":{"id":"id"}}`,
		"over 10 MiB": `{"uuid":"` + strings.Repeat("a", maxBody) + `"}`,
	} {
		t.Run(name, func(t *testing.T) {
			rec := serve(t, func(w http.ResponseWriter, _ *http.Request, _ int) { answer(w, http.StatusOK, body) })
			_, err := rec.client(t, nil).CreateRunner(t.Context(), acme, NewRunner{Name: "r"})
			if !errors.Is(err, ErrOutcomeUnknown) {
				t.Fatalf("got %v, want ErrOutcomeUnknown", err)
			}
			if strings.Contains(err.Error(), "runner-secret") {
				t.Errorf("the error contains the runner's secret: %v", err)
			}
			if got := len(rec.seen()); got != 1 {
				t.Errorf("%d tries, want 1", got)
			}
		})
	}
}

func TestTimeoutBoundsEachTry(t *testing.T) {
	release := make(chan struct{})
	rec := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	defer close(release)
	c := rec.client(t, func(cfg *Config) { cfg.Timeout = 50 * time.Millisecond })
	if _, _, err := c.GetRunner(t.Context(), acme, runnerUUID); !errors.Is(err, ErrUnavailable) {
		t.Errorf("read: got %v, want ErrUnavailable", err)
	}
	if got := len(rec.seen()); got != 3 {
		t.Errorf("read: %d tries, want 3", got)
	}
	if _, err := c.CreateRunner(t.Context(), acme, NewRunner{Name: "r"}); !errors.Is(err, ErrOutcomeUnknown) {
		t.Errorf("registration: got %v, want ErrOutcomeUnknown", err)
	}
	if got := len(rec.seen()); got != 4 {
		t.Errorf("registration: %d tries, want 1", got-3)
	}
}

func TestCancelEndsACallAndReportsAnUnknownOutcome(t *testing.T) {
	for name, unknown := range map[string]bool{"list": false, "create": true} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			rec := serve(t, func(_ http.ResponseWriter, r *http.Request, _ int) {
				cancel()
				<-r.Context().Done()
			})
			err := everyCall(rec.client(t, nil))[name](ctx)
			if !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want context.Canceled", err)
			}
			if got := errors.Is(err, ErrOutcomeUnknown); got != unknown {
				t.Errorf("outcome unknown %v, want %v: %v", got, unknown, err)
			}
			if got := len(rec.seen()); got != 1 {
				t.Errorf("%d tries, want 1", got)
			}
		})
	}
}

func TestRetryAfterIsHonouredUpToAMinute(t *testing.T) {
	date := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for name, tc := range map[string]struct {
		header string
		want   time.Duration
		tries  int
	}{
		"long, seconds": {"3600", time.Hour, 1},
		"long, date":    {date.Add(90 * time.Second).Format(http.TimeFormat), 90 * time.Second, 1},
		"past date":     {date.Add(-time.Hour).Format(http.TimeFormat), 0, 3},
		"unreadable":    {"soon", 0, 3},
	} {
		t.Run(name, func(t *testing.T) {
			rec := serve(t, func(w http.ResponseWriter, _ *http.Request, _ int) {
				w.Header().Set("Date", date.Format(http.TimeFormat))
				w.Header().Set("Retry-After", tc.header)
				w.WriteHeader(http.StatusTooManyRequests)
				_, _ = w.Write([]byte("Rate limit for this resource has been exceeded"))
			})
			_, err := rec.client(t, nil).ListRunners(t.Context(), acme)
			var limited *RateLimitedError
			if !errors.As(err, &limited) || limited.RetryAfter != tc.want {
				t.Errorf("got %v, want a wait of %s", err, tc.want)
			}
			if limited != nil && !strings.Contains(limited.Error(), "Rate limit for this resource") {
				t.Errorf("the message is missing: %v", err)
			}
			if got := len(rec.seen()); got != tc.tries {
				t.Errorf("%d tries, want %d", got, tc.tries)
			}
		})
	}
}

func TestRetryAfterIsWaitedFor(t *testing.T) {
	rec := serve(t, func(w http.ResponseWriter, _ *http.Request, number int) {
		if number == 1 {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		answer(w, http.StatusOK, page("", 0))
	})
	begun := time.Now()
	if _, err := rec.client(t, nil).ListRunners(t.Context(), acme); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begun); took < time.Second {
		t.Errorf("tried again after %s, want at least 1s", took)
	}
}

func TestCallDoesNotWaitBeyondItsDeadline(t *testing.T) {
	rec := serve(t, func(w http.ResponseWriter, _ *http.Request, _ int) {
		w.Header().Set("Retry-After", "50")
		w.WriteHeader(http.StatusTooManyRequests)
	})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	_, err := rec.client(t, nil).ListRunners(ctx, acme)
	var limited *RateLimitedError
	if !errors.As(err, &limited) || limited.RetryAfter != 50*time.Second || ctx.Err() != nil {
		t.Errorf("got %v, want a wait of 50s at once", err)
	}
}

func TestAnswersOver10MiBAreRefused(t *testing.T) {
	rec := serve(t, func(w http.ResponseWriter, _ *http.Request, _ int) {
		answer(w, http.StatusOK, `{"values":[],"pad":"`+strings.Repeat("a", maxBody)+`"}`)
	})
	if _, err := rec.client(t, nil).ListRunners(t.Context(), acme); !errors.Is(err, errTooLarge) {
		t.Errorf("got %v, want errTooLarge", err)
	}
}

func TestExhaustedBudgetSendsNothing(t *testing.T) {
	rec := serve(t, func(w http.ResponseWriter, _ *http.Request, _ int) { answer(w, 200, page("", 0)) })
	c := rec.client(t, func(cfg *Config) { cfg.Budget = NewBudget(10, 0.2, nil) })
	sent := 0
	var err error
	for range 20 {
		if _, err = c.ListRunners(t.Context(), acme); err != nil {
			break
		}
		sent++
	}
	if !errors.Is(err, ErrBudgetExhausted) || errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v, want ErrBudgetExhausted", err)
	}
	if sent != 8 || len(rec.seen()) != 8 {
		t.Errorf("%d lists and %d requests, want 8", sent, len(rec.seen()))
	}
	if err := c.DeleteRunner(t.Context(), acme, runnerUUID); err != nil {
		t.Errorf("deregistration may not use the reserve: %v", err)
	}
}
