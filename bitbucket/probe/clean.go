package probe

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"bitbucket-runner-scaler/bitbucket"
)

// delete deletes one of our runners. It stays in mine until Bitbucket shows that it does
// not exist.
func (v *visit) delete(ctx context.Context, uuid string) (bitbucket.Answer, error) {
	return v.one(ctx, http.MethodDelete, uuid, false, "", nil)
}

// gone reports whether Bitbucket answers that the runner does not exist.
func (v *visit) gone(ctx context.Context, uuid string) (bool, error) {
	_, answer, err := v.get(ctx, uuid)
	if err == nil && !answer.OK() && answer.Status != http.StatusNotFound {
		err = errors.New(said(answer))
	}
	return err == nil && answer.Status == http.StatusNotFound, err
}

// remove deletes the runner as a part of the check.
func (v *visit) remove(ctx context.Context) error {
	uuid := v.runner.UUID
	answer, err := v.delete(ctx, uuid)
	if err != nil {
		return err
	}
	if !answer.OK() {
		v.note(keyDelete, DoesNotHold, "%s", said(answer))
		return nil
	}
	took, ok, err := v.until(ctx, func() (bool, error) { return v.gone(ctx, uuid) })
	switch {
	case err != nil:
		return err
	case !ok:
		v.note(keyDelete, DoesNotHold, "%d, and it is there still after %v", answer.Status, took)
		return nil
	}
	delete(v.mine, uuid)
	verdict := Holds
	if answer.Status != http.StatusNoContent {
		verdict = DoesNotHold
	}
	v.note(keyDelete, verdict, "%d, then 404 after %v", answer.Status, took)
	took, ok, err = v.until(ctx, func() (bool, error) {
		all, answer, err := v.list(ctx, false)
		if err == nil && !answer.OK() {
			err = errors.New(said(answer))
		}
		_, there := find(all, uuid)
		return err == nil && !there, err
	})
	switch {
	case err != nil:
		return err
	case ok:
		v.note(keyDeleteLag, Holds, "after %v", took)
	default:
		v.note(keyDeleteLag, DoesNotHold, "it is there still after %v", took)
	}
	return nil
}

// leaveNothing deletes all our runners, and finds those of registrations without an
// answer. It always runs, for at most CleanLimit. It returns the runners that are or may
// be left.
func (v *visit) leaveNothing(ctx context.Context) (left []string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), v.CleanLimit)
	defer cancel()
	v.Progress("leaving nothing behind")
	begun := v.Clock.Now()
	for {
		clean := v.sweep(ctx)
		// A registration without an answer may take effect until Settle has passed.
		waits := v.doubtful && v.Clock.Since(begun) < v.Settle
		if clean && !waits {
			return nil
		}
		if !v.pause(ctx) {
			break
		}
	}
	for _, uuid := range slices.Sorted(maps.Keys(v.mine)) {
		left = append(left, v.mine[uuid]+" "+uuid)
	}
	if len(left) == 0 {
		left = append(left, "perhaps one whose name begins with "+v.name)
	}
	return left
}

// tryLimit bounds one call of sweep with its retries, so that a call that hangs leaves
// time for the next.
const tryLimit = 30 * time.Second

// sweep deletes our runners. It reports whether Bitbucket shows that none is left.
func (v *visit) sweep(ctx context.Context) bool {
	if len(v.mine) == 0 && !v.doubtful {
		return true // none was registered, or each was seen to be deleted
	}
	ctx, cancel := context.WithTimeout(ctx, tryLimit)
	defer cancel()
	all, answer, err := v.list(ctx, false)
	listed := err == nil && answer.OK()
	for _, runner := range all {
		if strings.HasPrefix(runner.Name, v.name) {
			v.mine[runner.UUID] = runner.Name
		}
	}
	for uuid := range v.mine {
		if answer, err := v.delete(ctx, uuid); err != nil || !answer.OK() && answer.Status != http.StatusNotFound {
			continue
		}
		if gone, err := v.gone(ctx, uuid); err == nil && gone {
			delete(v.mine, uuid)
		}
	}
	return listed && len(v.mine) == 0
}
