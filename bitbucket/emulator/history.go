package emulator

import (
	"time"

	"bitbucket-runner-scaler/bitbucket/emulator/history"
)

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
			sc.history = history.History[runner]{}
			if lag > 0 {
				sc.remember(now, lag)
			}
		}
	}
}

func (w *workspace) scopes() []*scope {
	all := append(make([]*scope, 0, 1+len(w.repositories)), w.scope)
	for _, r := range w.repositories {
		all = append(all, r.scope)
	}
	return all
}

func (sc *scope) remember(now time.Time, lag time.Duration) {
	list := make([]runner, len(sc.runners))
	for i, r := range sc.runners {
		list[i] = *r
	}
	sc.history.Remember(list, now, lag)
}
