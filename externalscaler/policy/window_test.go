package policy

import (
	"testing"
	"time"
)

func TestWindowKeepsABoundedNumberOfEntries(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		desired func(i int) int
		most    int
	}{
		"always as many": {func(int) int { return 5 }, 1},
		"always fewer":   {func(i int) int { return max(0, ScopeLimit-i) }, ScopeLimit + 1},
		"up and down":    {func(i int) int { return i * 7919 % (ScopeLimit + 1) }, ScopeLimit + 1},
	} {
		var w Window
		for i := range 10_000 {
			w.record(c.desired(i), 0, 24*time.Hour, now.Add(time.Duration(i)*time.Second))
			if len(w.desired) > c.most {
				t.Fatalf("%s: %d entries after %d records, want at most %d", name, len(w.desired), i+1, c.most)
			}
		}
	}
}
