package web

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"bitbucket-runner-scaler/externalscaler/status/api"
)

// The bounds of a stream.
const (
	// mostStreams is how many are open at once.
	mostStreams = 100
	// keepAlive is the longest time between two signs of life, and writeTimeout bounds the writing of one.
	keepAlive    = 15 * time.Second
	writeTimeout = 10 * time.Second
)

// Streams sends server-sent events to a bounded number of readers.
type Streams struct {
	changed func() <-chan struct{}
	// pace is the shortest time between two events.
	pace  time.Duration
	slots chan struct{}
}

// NewStreams returns Streams whose events follow changes, with at least pace between two. changed
// returns a channel that is closed at the next change.
func NewStreams(changed func() <-chan struct{}, pace time.Duration) *Streams {
	return &Streams{changed: changed, pace: pace, slots: make(chan struct{}, mostStreams)}
}

// refusedError is why a stream ends, as the body of an answer.
type refusedError struct{ body []byte }

func (e *refusedError) Error() string { return string(e.body) }

// Serve sends what look returns as an event named update: at once, and each time its tag has
// changed. A comment shows now and then that the stream is alive. If look fails, an event named error has the reason, and the
// stream ends.
func (s *Streams) Serve(w http.ResponseWriter, r *http.Request, look func() (tag string, body []byte, err error)) {
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	default:
		w.Header().Set("Retry-After", "10")
		write(w, r, http.StatusServiceUnavailable, encode(api.Error{Error: "too many streams are open"}))
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no") // or nginx keeps the events back
	if r.Method == http.MethodHead {
		return
	}
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Time{}) // else the server ends the request
	send := func(event []byte) bool {
		_ = control.SetWriteDeadline(time.Now().Add(writeTimeout))
		if _, err := w.Write(event); err != nil {
			return false
		}
		return control.Flush() == nil
	}
	sent, last := time.Time{}, ""
	for {
		changed := s.changed() // before the look, so that no change is missed
		tag, body, err := look()
		if err != nil {
			var refused *refusedError
			if !errors.As(err, &refused) {
				refused = &refusedError{encode(api.Error{Error: err.Error()})}
			}
			send(event("error", refused.body))
			return
		}
		switch {
		case tag != last || sent.IsZero():
			if !send(event("update", body)) {
				return
			}
			last, sent = tag, time.Now()
		case time.Since(sent) >= keepAlive:
			if !send([]byte(": alive\n\n")) {
				return
			}
			sent = time.Now()
		}
		if !s.wait(r, changed) {
			return
		}
	}
}

// wait waits for a change, or until an event is due; false once the reader is gone.
func (s *Streams) wait(r *http.Request, changed <-chan struct{}) bool {
	timer := time.NewTimer(keepAlive)
	defer timer.Stop()
	select {
	case <-changed:
	case <-timer.C:
	case <-r.Context().Done():
		return false
	}
	rest := time.NewTimer(s.pace)
	defer rest.Stop()
	select {
	case <-rest.C:
		return true
	case <-r.Context().Done():
		return false
	}
}

// event writes a server-sent event, with a field for each line of its data.
func event(name string, data []byte) []byte {
	var b strings.Builder
	b.WriteString("event: " + name + "\n")
	for line := range strings.Lines(string(data)) {
		b.WriteString("data: " + strings.ReplaceAll(strings.TrimRight(line, "\n"), "\r", " ") + "\n")
	}
	b.WriteString("\n")
	return []byte(b.String())
}
