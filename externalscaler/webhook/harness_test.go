package webhook

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	clocktesting "k8s.io/utils/clock/testing"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/credentials"
	"bitbucket-runner-scaler/externalscaler/queue"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const secret = "secret-of-the-webhook"

// bench is a handler under test, with time that stands still.
type bench struct {
	*Handler
	t     *testing.T
	clock *clocktesting.FakePassiveClock
	logs  *observer.ObservedLogs

	mu       sync.Mutex
	leads    bool
	sets     []credentials.Webhook
	fault    error
	outcomes map[string]int
	hinted   chan queue.Hint
}

// Webhooks implements Secrets.
func (b *bench) Webhooks() ([]credentials.Webhook, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.sets, b.fault
}

// Hint implements Hints.
func (b *bench) Hint(hint queue.Hint) { b.hinted <- hint }

func (b *bench) change(change func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change()
}

func set(name string, serves credentials.Serves, secrets ...bitbucket.Secret) credentials.Webhook {
	return credentials.Webhook{Name: name, Secrets: secrets, Serves: serves}
}

// newBench returns a handler that nothing takes hints from.
func newBench(t *testing.T, sets ...credentials.Webhook) *bench {
	t.Helper()
	core, logs := observer.New(zapcore.DebugLevel)
	b := &bench{
		t: t, clock: clocktesting.NewFakePassiveClock(time.Date(2026, 8, 1, 10, 0, 0, 0, time.UTC)), logs: logs,
		leads: true, sets: sets, outcomes: map[string]int{}, hinted: make(chan queue.Hint, 10_000),
	}
	b.Handler = New(Config{
		Secrets: b, Hints: b, Leads: func() bool { b.mu.Lock(); defer b.mu.Unlock(); return b.leads },
		Observe: func(event, outcome string, _ time.Duration) { b.change(func() { b.outcomes[event+" "+outcome]++ }) },
		Clock:   b.clock, Logger: zap.New(core),
	})
	return b
}

// run passes hints on until the test ends.
func (b *bench) run() *bench {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { b.Run(ctx) })
	b.t.Cleanup(func() { cancel(); running.Wait() })
	return b
}

// delivery returns a signed delivery, before it is changed.
func delivery(event, body string, signedWith string, change ...func(*http.Request)) *http.Request {
	r := httptest.NewRequest(http.MethodPost, Path, strings.NewReader(body))
	r.RemoteAddr = "192.0.2.1:1234"
	r.Header.Set("Content-Type", "application/json; charset=utf-8")
	r.Header.Set("X-Event-Key", event)
	if signedWith != "" {
		r.Header.Set("X-Hub-Signature", "sha256="+sign(body, signedWith))
	}
	for _, c := range change {
		c(r)
	}
	return r
}

func sign(body, secret string) string {
	sum := hmac.New(sha256.New, []byte(secret))
	sum.Write([]byte(body))
	return hex.EncodeToString(sum.Sum(nil))
}

func header(key, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(key, value) }
}

// deliver returns the status of the answer to a delivery.
func (b *bench) deliver(r *http.Request) int {
	answer := httptest.NewRecorder()
	b.ServeHTTP(answer, r)
	return answer.Code
}

func (b *bench) want(status int, r *http.Request) {
	b.t.Helper()
	if got := b.deliver(r); got != status {
		b.t.Errorf("got status %d, want %d", got, status)
	}
}

// next returns the next n hints.
func (b *bench) next(n int) []queue.Hint {
	b.t.Helper()
	var hints []queue.Hint
	for range n {
		select {
		case hint := <-b.hinted:
			hints = append(hints, hint)
		case <-time.After(20 * time.Second):
			b.t.Fatalf("got %v, want %d hints", hints, n)
		}
	}
	return hints
}

// pending returns how many deliveries wait for the queue.
func (b *bench) pending() int { return len(b.hints) }
