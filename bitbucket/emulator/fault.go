package emulator

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"bitbucket-runner-scaler/bitbucket/emulator/faults"
	"bitbucket-runner-scaler/bitbucket/emulator/resource"
)

func (s *Server) setFaults(c *call) answer {
	var given FaultRules
	if refusal, ok := decodeStrict(c.body, &given); !ok {
		return refusal
	}
	rules, err := faults.New(given.Rules)
	deliveries, other := faults.NewDeliveries(given.Deliveries)
	if err := errors.Join(err, other); err != nil {
		return failure(http.StatusBadRequest, err.Error())
	}
	s.rules, s.deliveries, s.past = rules, deliveries, faults.Memory[answer]{}
	s.keepHistory(c.now)
	return noContent()
}

// lateWrite is a write that was answered but not applied yet.
type lateWrite struct {
	at   time.Time
	done func(now time.Time)
}

// commit applies a write now, or at the time given by its fault.
func (s *Server) commit(c *call, write func(now time.Time)) {
	if c.fault.ApplyAfter <= 0 {
		write(c.now)
		return
	}
	s.later(c.now.Add(c.fault.ApplyAfter), write)
}

func (s *Server) later(at time.Time, write func(now time.Time)) {
	late := lateWrite{at: at, done: write}
	i := len(s.late)
	for i > 0 && s.late[i-1].at.After(late.at) {
		i--
	}
	s.late = append(s.late[:i], append([]lateWrite{late}, s.late[i:]...)...)
}

// stale replaces the answer to a call by an earlier one, if its fault says so. Lists of runners
// have a history of their own.
func (s *Server) stale(c *call, a *answer) {
	if c.fault.StaleFor > 0 && c.Method == http.MethodGet && !strings.HasSuffix(c.Pattern, "/runners") {
		*a = s.past.Stale(c.URL.RequestURI(), *a, c.now, c.fault.StaleFor)
	}
}

// deliver sends an event, unless a fault loses it.
func (s *Server) deliver(event string, n resource.Names, payload any) {
	times, late := s.deliveries.Take(event)
	for range times {
		if late > 0 {
			s.later(s.clock.Now().Add(late), func(time.Time) { s.webhooks.Send(event, n, payload) })
		} else {
			s.webhooks.Send(event, n, payload)
		}
	}
}
