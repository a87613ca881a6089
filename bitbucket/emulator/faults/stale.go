package faults

import "time"

// The limits of a Memory.
const (
	maxCalls   = 2000
	maxAnswers = 200
)

// Memory has earlier answers to calls, so that a rule can answer with an old one. The zero
// Memory is empty.
type Memory[T any] struct {
	calls map[string][]remembered[T]
}

type remembered[T any] struct {
	at     time.Time
	answer T
}

// Stale remembers the answer to a call and returns the one that was right this time ago, or the
// oldest that it has.
func (m *Memory[T]) Stale(call string, answer T, now time.Time, ago time.Duration) T {
	if m.calls == nil || len(m.calls) >= maxCalls {
		m.calls = map[string][]remembered[T]{}
	}
	m.calls[call] = append(m.calls[call], remembered[T]{now, answer})
	past := m.calls[call]
	for len(past) > maxAnswers || len(past) > 1 && now.Sub(past[1].at) >= ago {
		past = past[1:]
	}
	m.calls[call] = past
	return past[0].answer
}
