package webhooks

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	clocktesting "k8s.io/utils/clock/testing"

	"bitbucket-runner-scaler/bitbucket/emulator/resource"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type received struct {
	header http.Header
	body   string
}

// receiver answers deliveries with the statuses, one after the other, then with 200.
func receiver(t *testing.T, statuses ...int) (url string, got chan received) {
	t.Helper()
	got = make(chan received, 100)
	answers := make(chan int, len(statuses))
	for _, status := range statuses {
		answers <- status
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- received{r.Header, string(body)}
		select {
		case status := <-answers:
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(status)
		default:
		}
	}))
	t.Cleanup(server.Close)
	return server.URL + "/hook", got
}

func newSender(t *testing.T, anywhere bool) (*Sender, *clocktesting.FakeClock) {
	t.Helper()
	clock := clocktesting.NewFakeClock(time.Unix(0, 0))
	n := 0
	s := New(func() string { n++; return fmt.Sprintf("{00000000-0000-4000-8000-%012d}", n) }, clock, anywhere)
	t.Cleanup(s.Close)
	return s, clock
}

func (s *Sender) add(t *testing.T, h Hook) Hook {
	t.Helper()
	h, err := s.Add(h)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// settled waits until n deliveries have ended, and lets time pass for their retries.
func (s *Sender) settled(t *testing.T, clock *clocktesting.FakeClock, n int) []Delivery {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; <-time.After(time.Millisecond) {
		if r := s.Record(); len(r.Deliveries) >= n {
			return r.Deliveries
		}
		if clock.HasWaiters() {
			clock.Step(pause)
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d deliveries, want %d", len(s.Record().Deliveries), n)
		}
	}
}

func TestDeliveriesAreSigned(t *testing.T) {
	t.Parallel()
	s, _ := newSender(t, false)
	url, got := receiver(t)
	hook := s.add(t, Hook{URL: url, Secret: "s3cret", Events: []string{Push}})
	s.Send(CommitStatusCreated, resource.Names{}, "not wanted")
	s.Send(Push, resource.Names{}, map[string]string{"a": "b"})
	d := <-got
	sum := hmac.New(sha256.New, []byte("s3cret"))
	sum.Write([]byte(d.body))
	for name, want := range map[string]string{
		"X-Event-Key": Push, "X-Attempt-Number": "1", "Content-Type": "application/json",
		"X-Hook-Uuid": strings.Trim(hook.UUID, "{}"), "X-Hub-Signature": "sha256=" + hex.EncodeToString(sum.Sum(nil)),
	} {
		if got := d.header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if d.body != `{"a":"b"}` || d.header.Get("X-Request-UUID") == "" {
		t.Errorf("body %s, headers %v", d.body, d.header)
	}
}

func TestAWebhookWithoutASecretHasNoSignature(t *testing.T) {
	t.Parallel()
	s, _ := newSender(t, false)
	url, got := receiver(t)
	s.add(t, Hook{URL: url})
	s.Send(Push, resource.Names{}, 1)
	if d := <-got; d.header["X-Hub-Signature"] != nil {
		t.Errorf("signature %q", d.header.Get("X-Hub-Signature"))
	}
}

func TestServerErrorsAreTriedTwiceMore(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answers          []int
		attempts, status int
	}{
		"success":      {nil, 1, 200},
		"one 5xx":      {[]int{503}, 2, 200},
		"5xx for ever": {[]int{500, 502, 503, 503}, 3, 503},
		"4xx":          {[]int{429}, 1, 429},
		"redirect":     {[]int{302}, 1, 302},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, clock := newSender(t, false)
			url, got := receiver(t, c.answers...)
			s.add(t, Hook{URL: url})
			s.Send(Push, resource.Names{}, 1)
			d := s.settled(t, clock, 1)[0]
			if d.Attempts != c.attempts || d.Status != c.status {
				t.Errorf("got %+v, want %d attempts and %d", d, c.attempts, c.status)
			}
			requests := map[string]bool{}
			for n := 1; n <= c.attempts; n++ {
				r := <-got
				requests[r.header.Get("X-Request-UUID")] = true
				if number := r.header.Get("X-Attempt-Number"); number != fmt.Sprint(n) {
					t.Errorf("attempt %d has number %s", n, number)
				}
			}
			if len(requests) != 1 {
				t.Errorf("attempts have %d different request UUIDs", len(requests))
			}
		})
	}
}

func TestWhatIsNotDelivered(t *testing.T) {
	t.Parallel()
	url, _ := receiver(t)
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	for name, c := range map[string]struct {
		url      string
		payload  any
		attempts int
		says     string
	}{
		"too large":    {url, strings.Repeat("x", maxPayload), 0, "not sent"},
		"no answer":    {gone.URL, 1, 1, "refused"},
		"not loopback": {"http://192.0.2.1:1/", 1, 1, "no loopback address"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, clock := newSender(t, false)
			s.add(t, Hook{URL: c.url})
			s.Send(Push, resource.Names{}, c.payload)
			d := s.settled(t, clock, 1)[0]
			if d.Attempts != c.attempts || d.Status != 0 || !strings.Contains(d.Error, c.says) {
				t.Errorf("got %+v, want %d attempts and %q", d, c.attempts, c.says)
			}
		})
	}
}

func TestTheQueueIsBounded(t *testing.T) {
	t.Parallel()
	s, _ := newSender(t, false)
	held := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-held }))
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(held) })
	s.add(t, Hook{URL: server.URL})
	for range maxWaiting + 10 {
		s.Send(Push, resource.Names{}, 1)
	}
	if got := s.Record().Dropped; got < 9 || got > 10 { // one may be on its way
		t.Errorf("%d dropped, want 9 or 10", got)
	}
	s.Close() // it ends the delivery that is held
}

func TestWrongWebhooksAreRefused(t *testing.T) {
	t.Parallel()
	s, _ := newSender(t, false)
	_, err := s.Add(Hook{URL: "ftp://x", Events: []string{"repo:nothing"}})
	for _, want := range []string{"url", "repo:nothing"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s in it", err, want)
		}
	}
	url, got := receiver(t)
	hook := s.add(t, Hook{URL: url})
	if !s.Remove(hook.UUID) || s.Remove(hook.UUID) || s.Wanted(Push, resource.Names{}) {
		t.Error("a webhook is removed once")
	}
	s.Send(Push, resource.Names{}, 1)
	select {
	case d := <-got:
		t.Errorf("delivered %s to a removed webhook", d.body)
	default:
	}
}
