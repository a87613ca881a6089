package emulator

import "time"

// maxHistory bounds how many past lists of a scope are kept.
const maxHistory = 1000

// snapshot is a scope's list of runners at one time.
type snapshot struct {
	at      time.Time
	runners []runner
}

// changed is called after every change of a scope's list.
func (s *Server) changed(sc *scope, now time.Time) {
	s.observe(sc)
	if lag := s.rules.LongestLag(); lag > 0 {
		sc.remember(now, lag)
	}
}

// keepHistory starts or stops keeping past lists, depending on the rules.
func (s *Server) keepHistory(now time.Time) {
	lag := s.rules.LongestLag()
	for _, w := range s.workspaces {
		for _, sc := range w.scopes() {
			sc.history = nil
			if lag > 0 {
				sc.remember(now, lag)
			}
		}
	}
}

func (w *workspace) scopes() []*scope {
	all := make([]*scope, 0, 1+len(w.repositories))
	all = append(all, w.scope)
	for _, r := range w.repositories {
		all = append(all, r.scope)
	}
	return all
}

func (sc *scope) remember(now time.Time, lag time.Duration) {
	past := snapshot{at: now, runners: make([]runner, 0, len(sc.runners))}
	for _, r := range sc.runners {
		past.runners = append(past.runners, *r)
	}
	sc.history = append(sc.history, past)
	// The newest snapshot that is older than the lag is still shown.
	for len(sc.history) > maxHistory || len(sc.history) > 1 && now.Sub(sc.history[1].at) > lag {
		sc.history = sc.history[1:]
	}
}

// asOf returns the list at a time, or the oldest one that is kept.
func (sc *scope) asOf(at time.Time) []runner {
	if len(sc.history) == 0 {
		return nil
	}
	shown := sc.history[0]
	for _, past := range sc.history[1:] {
		if past.at.After(at) {
			break
		}
		shown = past
	}
	return shown.runners
}
