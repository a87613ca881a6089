package scope

import (
	"context"
	"errors"
	"maps"

	"go.uber.org/zap"

	"bitbucket-runner-scaler/bitbucket"
)

// accept makes a list the authority, unless too many of our runners vanished from
// it: then a second complete list and a GET of each must agree first.
func (s *scope) accept(ctx context.Context, list bitbucket.RunnerList) {
	s.mu.Lock()
	vanished := s.vanished(list)
	awaited := s.suspect != nil
	s.mu.Unlock()
	if len(vanished) > 0 && (!awaited || !s.confirmGone(ctx, vanished)) {
		s.mu.Lock()
		s.suspect = vanished
		s.mu.Unlock()
		s.log.Warn("many runners vanished from one list, nothing is done until a second list and a read of each agree", zap.Int("vanished", len(vanished)))
		return
	}
	s.mu.Lock()
	recovered := s.listErr != nil
	s.carried = s.carry(list)
	s.list, s.listErr, s.suspect, s.view = &list, nil, nil, nil
	for _, runner := range list.Runners {
		s.stepSeen = s.stepSeen || runner.State.Step != nil
	}
	maps.DeleteFunc(s.rechecks, func(_ string, r recheck) bool { return list.Begun.After(r.begun) })
	s.forgetWrites(list)
	s.mu.Unlock()
	if recovered {
		s.log.Info("the runners can be read again")
	}
	s.changed()
}

// maxContradictions is how many lists may show a deleted runner before it is believed
// that the deletion never took effect, as when Bitbucket answers 404 for want of rights.
const maxContradictions = 2

// forgetWrites drops the writes that the list must show. A deletion stays until a list
// lacks the runner. Called locked.
func (s *scope) forgetWrites(list bitbucket.RunnerList) {
	shown := uuidsOf(list)
	for uuid, w := range s.writes {
		if !list.Begun.After(w.at.Add(s.config.WriteSettle)) {
			continue
		}
		if _, listed := shown[uuid]; w.deleted && listed && w.contradicted < maxContradictions {
			w.contradicted++
			s.writes[uuid] = w
			continue
		} else if w.deleted && listed {
			s.log.Warn("a deleted runner is still there", zap.String("runner", uuid), zap.String("name", w.runner.Name))
		}
		delete(s.writes, uuid)
	}
}

// uuidsOf are the UUIDs of the runners that a list shows.
func uuidsOf(list bitbucket.RunnerList) map[string]struct{} {
	shown := make(map[string]struct{}, len(list.Runners))
	for _, runner := range list.Runners {
		shown[runner.UUID] = struct{}{}
	}
	return shown
}

// carry returns our runners that the list in force shows and the new one lacks,
// although we did not delete them. Called locked.
func (s *scope) carry(list bitbucket.RunnerList) map[string]bitbucket.Runner {
	carried := map[string]bitbucket.Runner{}
	if s.list == nil {
		return carried
	}
	shown := uuidsOf(list)
	for _, runner := range s.list.Runners {
		if _, listed := shown[runner.UUID]; !listed && s.config.ours(runner) && !s.writes[runner.UUID].deleted {
			carried[runner.UUID] = runner
		}
	}
	return carried
}

// vanished returns our runners that the new list lacks although we did not delete
// them, if they are at least 3 and more than a third. Called locked.
func (s *scope) vanished(list bitbucket.RunnerList) []bitbucket.Runner {
	shown := uuidsOf(list)
	var missing []bitbucket.Runner
	ours := 0
	for _, runner := range s.known() {
		if w, ok := s.writes[runner.UUID]; !s.config.ours(runner) || ok && !list.Begun.After(w.at.Add(s.config.WriteSettle)) {
			continue // not ours, or too new for a list to be sure to show it
		}
		ours++
		if _, listed := shown[runner.UUID]; !listed {
			missing = append(missing, runner)
		}
	}
	if len(missing) < 3 || 3*len(missing) <= ours {
		return nil
	}
	return missing
}

// confirmGone reports whether Bitbucket knows none of the runners any more.
func (s *scope) confirmGone(ctx context.Context, runners []bitbucket.Runner) bool {
	for _, runner := range runners {
		if _, _, err := s.using().GetRunner(ctx, s.resolvedScope(), runner.UUID); !errors.Is(err, bitbucket.ErrNotFound) {
			return false
		}
	}
	return true
}
