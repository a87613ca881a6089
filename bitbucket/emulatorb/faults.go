package emulator

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"time"
)

// FaultRule lets matching calls fail. Durations are Go's ("2s").
type FaultRule struct {
	// Method and Path choose the calls: an empty Method is any, `*` in Path any
	// run of characters.
	Method string `json:"method,omitempty"`
	Path   string `json:"path"`
	// Status answers with that status instead.
	Status int `json:"status,omitempty"`
	// Probability that the rule applies; 1 if absent.
	Probability float64 `json:"probability,omitempty"`
	// Latency before the answer.
	Latency string `json:"latency,omitempty"`
	// Count is how many times the rule applies; without end if absent.
	Count int `json:"count,omitempty"`
	// RetryAfter is sent with Status, in seconds.
	RetryAfter int `json:"retryAfter,omitempty"`
	// DropAfterWrite applies the write and cuts the connection instead of answering.
	DropAfterWrite bool `json:"dropAfterWrite,omitempty"`
	// ApplyAfter answers at once and applies the write later.
	ApplyAfter string `json:"applyAfter,omitempty"`
	// StaleFor shows lists as they were that long ago.
	StaleFor string `json:"staleFor,omitempty"`
	// EmptyList shows lists without a runner.
	EmptyList bool `json:"emptyList,omitempty"`
	// Truncate cuts the body in the middle.
	Truncate bool `json:"truncate,omitempty"`
}

// faultState is a rule in force.
type faultState struct {
	FaultRule
	latency, applyAfter, staleFor time.Duration
	fired                         int
}

func newFault(rule FaultRule) (*faultState, error) {
	f := &faultState{FaultRule: rule}
	var faults []error
	for name, d := range map[string]struct {
		given string
		into  *time.Duration
	}{"latency": {rule.Latency, &f.latency}, "applyAfter": {rule.ApplyAfter, &f.applyAfter}, "staleFor": {rule.StaleFor, &f.staleFor}} {
		if d.given == "" {
			continue
		}
		parsed, err := time.ParseDuration(d.given)
		if err != nil || parsed < 0 || parsed > time.Hour {
			faults = append(faults, fmt.Errorf("%s: %q, want a duration such as 2s, at most 1h", name, d.given))
		}
		*d.into = parsed
	}
	if rule.Path == "" {
		faults = append(faults, errors.New("path: empty, want a path, * for any run of characters"))
	}
	if rule.Probability < 0 || rule.Probability > 1 {
		faults = append(faults, fmt.Errorf("probability: %v, want 0 to 1", rule.Probability))
	}
	if rule.Status != 0 && (rule.Status < 400 || rule.Status > 599) {
		faults = append(faults, fmt.Errorf("status: %d, want 400 to 599", rule.Status))
	}
	return f, errors.Join(faults...)
}

// matches reports whether the rule applies to this call, and counts it.
func (f *faultState) matches(r *http.Request) bool {
	if f.Method != "" && f.Method != r.Method || f.Count > 0 && f.fired >= f.Count || !glob(f.Path, r.URL.Path) {
		return false
	}
	if f.Probability > 0 && rand.Float64() >= f.Probability { //nolint:gosec // a fault, not a secret
		return false
	}
	f.fired++
	return true
}

// glob matches * with any run of characters, slashes too.
func glob(pattern, path string) bool {
	parts := strings.Split(pattern, "*")
	if !strings.HasPrefix(path, parts[0]) {
		return false
	}
	path = path[len(parts[0]):]
	for i, part := range parts[1:] {
		if i == len(parts)-2 {
			return strings.HasSuffix(path, part)
		}
		at := strings.Index(path, part)
		if at < 0 {
			return false
		}
		path = path[at+len(part):]
	}
	return path == ""
}

type faultKey struct{}

// faultOf is the fault that applies to a call; an empty one if none does.
func faultOf(r *http.Request) *faultState {
	if f, ok := r.Context().Value(faultKey{}).(*faultState); ok {
		return f
	}
	return &faultState{}
}

// withFaults answers a call, spoilt by the first rule that matches.
func (s *Server) withFaults(w http.ResponseWriter, r *http.Request) {
	var fault *faultState
	s.mu.Lock()
	for _, f := range s.faults {
		if f.matches(r) {
			fault = f
			break
		}
	}
	s.mu.Unlock()
	if fault == nil {
		s.mux.ServeHTTP(w, r)
		return
	}
	if fault.latency > 0 {
		timer := s.options.Clock.NewTimer(fault.latency)
		defer timer.Stop()
		select {
		case <-timer.C():
		case <-r.Context().Done():
			return
		}
	}
	if fault.Status != 0 {
		if fault.RetryAfter > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(fault.RetryAfter))
		}
		writeError(w, &apiError{status: fault.Status, message: http.StatusText(fault.Status), plain: fault.Status == http.StatusTooManyRequests})
		return
	}
	r = r.WithContext(context.WithValue(r.Context(), faultKey{}, fault))
	if !fault.DropAfterWrite && !fault.Truncate {
		s.mux.ServeHTTP(w, r)
		return
	}
	recorded := httptest.NewRecorder()
	s.mux.ServeHTTP(recorded, r)
	if fault.Truncate {
		for name, values := range recorded.Header() {
			w.Header()[name] = values
		}
		body := recorded.Body.Bytes()
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		w.WriteHeader(recorded.Code)
		_, _ = w.Write(body[:len(body)/2])
	}
	panic(http.ErrAbortHandler) // cuts the connection, without a log line
}
