package history_test

import (
	"slices"
	"testing"
	"time"

	"bitbucket-runner-scaler/bitbucket/emulator/history"
)

func TestWhatAListWasAtATime(t *testing.T) {
	var h history.History[int]
	start := time.Date(2026, 10, 1, 12, 0, 0, 0, time.UTC)
	at := func(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }
	if got := h.AsOf(start); got != nil {
		t.Errorf("an empty history has %v", got)
	}
	for i, seconds := range []int{0, 10, 20, 30} {
		h.Remember([]int{i}, at(seconds), 15*time.Second)
	}
	for seconds, want := range map[int][]int{-5: {1}, 10: {1}, 19: {1}, 20: {2}, 29: {2}, 30: {3}, 99: {3}} { // the first one is forgotten
		if got := h.AsOf(at(seconds)); !slices.Equal(got, want) {
			t.Errorf("at %d s: got %v, want %v", seconds, got, want)
		}
	}
}
