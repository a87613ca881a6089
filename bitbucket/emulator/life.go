package emulator

import (
	"slices"
	"time"

	"bitbucket-runner-scaler/bitbucket/emulator/peaks"
)

// maxLives bounds the memory. The oldest entries are dropped.
const maxLives = 100_000

// bury records the lifetime of a runner's process that has ended or is replaced.
func (s *Server) bury(r *runner) {
	if r.born.IsZero() {
		return
	}
	s.lives = append(s.lives, peaks.Life{LabelSet: r.labelSet, Born: r.born, Seen: r.seen})
	if len(s.lives) > maxLives {
		s.lives = s.lives[1:]
	}
	r.born = time.Time{}
}

// peakAlive returns the highest number of processes alive at the same time, by label set.
func (s *Server) peakAlive() map[string]int {
	lives := slices.Clone(s.lives)
	for _, r := range s.runners {
		lives = append(lives, peaks.Life{LabelSet: r.labelSet, Born: r.born, Seen: r.seen})
	}
	return peaks.Alive(lives)
}
