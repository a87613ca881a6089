// Package webhooks delivers events to webhooks as Bitbucket does: with its headers, its
// signature, its time limit and its retries. It starts its only goroutine with the first
// webhook, and keeps a bounded number of deliveries. The payloads are in payload.go and
// span.go.
package webhooks

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"k8s.io/utils/clock"

	"bitbucket-runner-scaler/bitbucket/emulator/resource"
)

// The limits of Bitbucket, and those that bound the memory.
const (
	timeout     = 10 * time.Second
	maxAttempts = 3
	maxPayload  = 256 << 10
	maxWaiting  = 1000
	maxKept     = 100
	maxHooks    = 50
	// pause is the time between two attempts. Bitbucket's is not known.
	pause = time.Second
)

// The events that the emulator sends.
const (
	Push                = "repo:push"
	CommitStatusCreated = "repo:commit_status_created"
	CommitStatusUpdated = "repo:commit_status_updated"
	SpanCreated         = "pipeline:span_created"
	PullRequestCreated  = "pullrequest:created"
	PullRequestUpdated  = "pullrequest:updated"
	PullRequestPush     = "pullrequest:push"
	PullRequestMerged   = "pullrequest:fulfilled"
)

var events = []string{
	Push, CommitStatusCreated, CommitStatusUpdated, SpanCreated,
	PullRequestCreated, PullRequestUpdated, PullRequestPush, PullRequestMerged,
}

// Delivery is the end of one delivery.
type Delivery struct {
	Hook  string `json:"hook"`
	Event string `json:"event"`
	// Attempts is how often it was sent. It is 0 if the payload was too large.
	Attempts int `json:"attempts"`
	// Status is that of the last answer, 0 if there was none.
	Status int    `json:"status"`
	Error  string `json:"error,omitempty"`
}

// Record is what a Sender has done.
type Record struct {
	Hooks []Hook `json:"hooks"`
	// Deliveries are the last ones, oldest first.
	Deliveries []Delivery `json:"deliveries"`
	// Dropped counts the deliveries for which the queue had no room.
	Dropped int `json:"dropped"`
}

type delivery struct {
	hook    Hook
	event   string
	request string // the UUID of the request
	payload []byte
}

// Sender delivers events. It is safe for concurrent use.
type Sender struct {
	newUUID func() string
	clock   clock.Clock
	client  *http.Client
	closed  context.Context //nolint:containedctx // the sender's life
	close   context.CancelFunc
	waiting chan delivery
	ended   sync.WaitGroup

	begun time.Time

	mu      sync.Mutex
	started bool
	record  Record
}

// New returns a Sender without webhooks. Without anywhere it connects to loopback addresses
// only.
func New(newUUID func() string, c clock.Clock, anywhere bool) *Sender {
	dialer := &net.Dialer{}
	if !anywhere {
		dialer.Control = func(_, address string, _ syscall.RawConn) error {
			host, _, err := net.SplitHostPort(address)
			if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
				return fmt.Errorf("%s is no loopback address", address)
			}
			return nil
		}
	}
	s := &Sender{
		newUUID: newUUID, clock: c, begun: c.Now(), waiting: make(chan delivery, maxWaiting),
		client: &http.Client{
			Timeout:       timeout,
			Transport:     &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		record: Record{Hooks: []Hook{}, Deliveries: []Delivery{}},
	}
	s.closed, s.close = context.WithCancel(context.Background())
	return s
}

// Add registers a webhook and returns it with its UUID. The error lists all faults.
func (s *Sender) Add(h Hook) (Hook, error) {
	if len(h.Events) == 0 {
		h.Events = events
	}
	faults := h.faults()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.record.Hooks) >= maxHooks {
		faults = append(faults, fmt.Errorf("%d webhooks exist, which is the maximum", maxHooks))
	}
	if len(faults) > 0 {
		return Hook{}, errors.Join(faults...)
	}
	h.UUID = s.newUUID()
	s.record.Hooks = append(s.record.Hooks, h)
	if !s.started && s.closed.Err() == nil {
		s.started = true
		s.ended.Go(s.work)
	}
	return h, nil
}

// Remove deletes a webhook. It returns false if there is none of that UUID.
func (s *Sender) Remove(uuid string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := len(s.record.Hooks)
	s.record.Hooks = slices.DeleteFunc(s.record.Hooks, func(h Hook) bool { return h.UUID == uuid })
	return len(s.record.Hooks) < before
}

// Wanted reports whether a webhook wants an event of a repository, so that the caller need not
// make its payload otherwise.
func (s *Sender) Wanted(event string, n resource.Names) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.record.Hooks, func(h Hook) bool { return h.wants(event, n) })
}

// Send queues an event of a repository for the webhooks that want it. It does not wait.
func (s *Sender) Send(event string, n resource.Names, payload any) {
	data, err := json.Marshal(payload)
	if err != nil {
		data = fmt.Appendf(nil, "%q", err) // all payloads of this package can be encoded
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, h := range s.record.Hooks {
		if !h.wants(event, n) {
			continue
		}
		select {
		case s.waiting <- delivery{hook: h, event: event, request: s.newUUID(), payload: data}:
		default:
			s.record.Dropped++
		}
	}
}

// Record returns what the Sender has done.
func (s *Sender) Record() Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.record
	r.Hooks, r.Deliveries = slices.Clone(r.Hooks), slices.Clone(r.Deliveries)
	return r
}

// Close stops all deliveries and waits for their end.
func (s *Sender) Close() {
	s.mu.Lock()
	s.close()
	s.mu.Unlock()
	s.ended.Wait()
}

func (s *Sender) work() {
	for {
		select {
		case d := <-s.waiting:
			done := s.deliver(d)
			s.mu.Lock()
			s.record.Deliveries = append(s.record.Deliveries, done)
			if n := len(s.record.Deliveries); n > maxKept {
				s.record.Deliveries = s.record.Deliveries[n-maxKept:]
			}
			s.mu.Unlock()
		case <-s.closed.Done():
			return
		}
	}
}

// deliver sends one delivery, and sends it again if the answer is a 5xx. Whether Bitbucket
// does so without an answer is not known, so it is lost.
func (s *Sender) deliver(d delivery) Delivery {
	done := Delivery{Hook: d.hook.UUID, Event: d.event}
	if len(d.payload) > maxPayload {
		done.Error = fmt.Sprintf("payload of %d bytes is not sent", len(d.payload))
		return done
	}
	for done.Attempts < maxAttempts {
		if done.Attempts > 0 && !s.wait() {
			break
		}
		done.Attempts++
		status, err := s.attempt(d, done.Attempts)
		done.Status, done.Error = status, ""
		if err != nil {
			done.Error = err.Error()
		}
		if err != nil || status < http.StatusInternalServerError {
			break
		}
	}
	return done
}

func (s *Sender) attempt(d delivery, number int) (status int, err error) {
	req, err := http.NewRequestWithContext(s.closed, http.MethodPost, d.hook.URL, bytes.NewReader(d.payload))
	if err != nil {
		return 0, err
	}
	h := req.Header
	h.Set("Content-Type", "application/json")
	h.Set("User-Agent", "Bitbucket-Webhooks/2.0")
	h.Set("X-Event-Key", d.event)
	h.Set("X-Hook-UUID", d.hook.UUID[1:len(d.hook.UUID)-1])
	h.Set("X-Request-UUID", d.request[1:len(d.request)-1])
	h.Set("X-Attempt-Number", strconv.Itoa(number))
	if d.hook.Secret != "" {
		sum := hmac.New(sha256.New, []byte(d.hook.Secret))
		sum.Write(d.payload)
		h.Set("X-Hub-Signature", "sha256="+hex.EncodeToString(sum.Sum(nil)))
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxPayload))
	return resp.StatusCode, nil
}

// wait pauses between two attempts. It returns false if the Sender is closed.
func (s *Sender) wait() bool {
	timer := s.clock.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C():
		return true
	case <-s.closed.Done():
		return false
	}
}
