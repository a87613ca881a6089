package emulator

import (
	"net/http"
	"time"

	"bitbucket-runner-scaler/bitbucket/emulator/faults"
)

func (s *Server) setFaults(c *call) answer {
	var given FaultRules
	if refusal, ok := decodeStrict(c.body, &given); !ok {
		return refusal
	}
	rules, err := faults.New(given.Rules)
	if err != nil {
		return failure(http.StatusBadRequest, err.Error())
	}
	s.rules = rules
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
	late := lateWrite{at: c.now.Add(c.fault.ApplyAfter), done: write}
	i := len(s.late)
	for i > 0 && s.late[i-1].at.After(late.at) {
		i--
	}
	s.late = append(s.late[:i], append([]lateWrite{late}, s.late[i:]...)...)
}
