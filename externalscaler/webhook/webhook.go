// Package webhook receives the deliveries of Bitbucket's webhooks and makes hints of them
// for package queue. A delivery names no credentials set: the set whose secret signs it is
// the one that it is for. Its content is only a hint, so a forged or lost delivery costs a
// read or the wait for a poll.
//
// The parts are: signature.go (whose delivery it is), event.go (what it says), source.go
// (what one address may cost), repeat.go (what was delivered before). What a hint leads to
// is in package queue.
package webhook

import (
	"bytes"
	"context"
	"errors"
	"mime"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/semaphore"
	"k8s.io/utils/clock"

	"bitbucket-runner-scaler/externalscaler/credentials"
	"bitbucket-runner-scaler/externalscaler/queue"
)

// Path is where deliveries are accepted.
const Path = "/webhooks/bitbucket"

// MaxBody is the size of the largest payload, in bytes. Bitbucket sends no larger one.
const MaxBody = 256 << 10

// The bounds of what deliveries may cost. A delivery of Bitbucket waits up to 10 s for its
// answer.
const (
	// bodies is how many bodies are read and checked at a time. Others wait for up to
	// slotTimeout. A body must have arrived within bodyTimeout, the wait included.
	bodies      = 64
	bodyTimeout = 5 * time.Second
	slotTimeout = 2 * time.Second
	// maxRequest is the longest identifier of a request that is remembered.
	maxRequest = 64
	// waiting is how many deliveries with hints are kept until the queue takes them.
	waiting = 1000
)

// Hints takes what deliveries say. Hint may block for a short time.
type Hints interface {
	Hint(hint queue.Hint)
}

// Secrets returns the credentials sets that have a webhook's secret. The error says which
// other sets have faults.
type Secrets interface {
	Webhooks() ([]credentials.Webhook, error)
}

// Config configures a Handler.
type Config struct {
	Secrets Secrets
	Hints   Hints
	// Leads reports whether this process leads. A standby takes no deliveries.
	Leads func() bool
	// Observe is called after each delivery, with one of Events and one of Outcomes. It
	// may be nil.
	Observe func(event, outcome string, took time.Duration)
	// Clock is the system's by default.
	Clock  clock.PassiveClock
	Logger *zap.Logger
}

// Handler is an http.Handler for Path. Run must run beside it. It is safe for concurrent
// use.
type Handler struct {
	config  Config
	keys    *keys
	sources *sources
	slots   *semaphore.Weighted
	buffers sync.Pool
	hints   chan []queue.Hint
	refused refusals
	// slotTimeout and bodyTimeout are the constants, except in tests.
	slotTimeout, bodyTimeout time.Duration

	mu      sync.Mutex // also makes the check for a repeat and the entry into hints one step
	repeats *repeats
	last    map[string]time.Time // last good delivery by credentials set
}

// New returns a Handler.
func New(c Config) *Handler {
	if c.Clock == nil {
		c.Clock = clock.RealClock{}
	}
	if c.Observe == nil {
		c.Observe = func(string, string, time.Duration) {}
	}
	return &Handler{
		config: c, keys: newKeys(c.Secrets, c.Clock, c.Logger), sources: newSources(c.Clock),
		slots:   semaphore.NewWeighted(bodies),
		buffers: sync.Pool{New: func() any { return new(bytes.Buffer) }},
		hints:   make(chan []queue.Hint, waiting), refused: refusals{clock: c.Clock, log: c.Logger},
		slotTimeout: slotTimeout, bodyTimeout: bodyTimeout,
		repeats: newRepeats(c.Clock), last: map[string]time.Time{},
	}
}

// Run passes hints on until ctx ends. What is left then is dropped: a hint that is lost
// costs the wait for a poll.
func (h *Handler) Run(ctx context.Context) {
	h.keys.current() // its faults are logged at the start
	for {
		select {
		case <-ctx.Done():
			return
		case hints := <-h.hints:
			for _, hint := range hints {
				h.config.Hints.Hint(hint)
			}
		}
	}
}

// Last returns when the last good delivery of each credentials set with a webhook's secret
// was received. The time is zero if there was none.
func (h *Handler) Last() map[string]time.Time {
	sets := h.keys.current()
	h.mu.Lock()
	defer h.mu.Unlock()
	last := make(map[string]time.Time, len(sets))
	for _, set := range sets {
		last[set.Name] = h.last[set.Name]
	}
	return last
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	begun := h.config.Clock.Now()
	h.limit(w)
	event := known(r.Header.Get("X-Event-Key"))
	outcome := h.receive(w, r)
	answer := answers[outcome]
	switch outcome {
	case Standby:
		w.Header().Set("Connection", "close") // a new one to the Service leads to the leader
	case WrongMethod:
		w.Header().Set("Allow", http.MethodPost)
	}
	if answer.text == "" {
		w.WriteHeader(answer.status)
	} else {
		http.Error(w, answer.text, answer.status)
	}
	h.config.Observe(event, outcome, h.config.Clock.Since(begun))
}

// receive handles a delivery and returns its outcome.
func (h *Handler) receive(w http.ResponseWriter, r *http.Request) string {
	switch {
	case r.Method != http.MethodPost:
		return WrongMethod
	case !h.config.Leads():
		return Standby
	case r.ContentLength > MaxBody:
		return TooLarge
	}
	source := h.sources.of(r.RemoteAddr)
	signature, ok := signatureOf(r.Header)
	if !ok {
		return h.refuse(source, r.RemoteAddr, Unsigned)
	}
	ctx, cancel := context.WithTimeout(r.Context(), h.slotTimeout)
	defer cancel()
	if !source.enter(ctx) {
		return Overloaded
	}
	defer source.leave()
	if h.slots.Acquire(ctx, 1) != nil {
		return Overloaded
	}
	defer h.slots.Release(1)
	body := h.buffers.Get().(*bytes.Buffer)
	defer h.buffers.Put(body)
	body.Reset()
	if outcome := h.read(w, r, body); outcome != "" {
		return outcome
	}
	sets := h.keys.signers(body.Bytes(), signature)
	switch {
	case len(sets) == 0:
		return h.refuse(source, r.RemoteAddr, Forged)
	case !source.mayDeliver():
		return Overloaded
	}
	return h.take(r.Header, body.Bytes(), sets)
}

// read reads the body. outcome is empty if it could be read.
func (h *Handler) read(w http.ResponseWriter, r *http.Request, body *bytes.Buffer) (outcome string) {
	_, err := body.ReadFrom(http.MaxBytesReader(w, r.Body, MaxBody))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return TooLarge
	case err != nil:
		return Interrupted
	}
	return ""
}

// limit bounds the time until the body has arrived, also of one that is not read here: the
// server reads it before it sends the answer.
func (h *Handler) limit(w http.ResponseWriter) {
	// It fails for the writers of some tests, which have no connection.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(h.bodyTimeout))
}

// refuse counts a delivery without a good signature against its source.
func (h *Handler) refuse(from *source, address, outcome string) string {
	h.refused.add(address, outcome)
	if !from.mayFail() {
		return Limited
	}
	return outcome
}

// take makes hints of a delivery that these sets have signed.
func (h *Handler) take(header http.Header, body []byte, sets []credentials.Webhook) string {
	if kind, _, err := mime.ParseMediaType(header.Get("Content-Type")); err != nil || kind != "application/json" || header.Get("Content-Encoding") != "" {
		return WrongContent
	}
	names := make([]string, 0, len(sets))
	for _, set := range sets {
		names = append(names, set.Name)
	}
	event := header.Get("X-Event-Key")
	places, err := read(event, body)
	if err != nil {
		return Malformed
	}
	now := h.config.Clock.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, name := range names {
		h.last[name] = now
	}
	if len(places) == 0 {
		if !slices.Contains(events, event) {
			return Unknown
		}
		return Irrelevant
	}
	hints := hintsOf(places, sets)
	if len(hints) == 0 {
		return Outside
	}
	// The names of the sets are part of it, so that nobody can use up the identifiers of
	// others.
	request := ""
	if id := header.Get("X-Request-UUID"); id != "" && len(id) <= maxRequest {
		request = strings.Join(append(names, id), "/")
	}
	if h.repeats.has(request) {
		return Repeated
	}
	select {
	case h.hints <- hints:
		h.repeats.add(request)
		return Accepted
	default:
		return Overloaded
	}
}

// hintsOf returns the hints for each set about what it covers.
func hintsOf(places []place, sets []credentials.Webhook) []queue.Hint {
	var hints []queue.Hint
	for _, set := range sets {
		for _, at := range places {
			if set.Serves.Covers(at.workspace.all(), at.repository.all()) {
				hints = append(hints, queue.Hint{
					Credentials: set.Name, Workspace: at.workspace.best(), Repository: at.repository.best(),
					Build: at.build, Pipeline: at.pipeline, Over: at.over,
				})
			}
		}
	}
	return hints
}
