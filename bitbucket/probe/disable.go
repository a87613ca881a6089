package probe

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"bitbucket-runner-scaler/bitbucket"
)

// state is the body of a request that sets a status.
func state(status bitbucket.Status) any { return map[string]bitbucket.Status{"status": status} }

// disabled waits for the runner to show DISABLED, or any other status if want is false.
func (v *visit) disabled(ctx context.Context, want bool) (last shown, ok bool, err error) {
	_, ok, err = v.until(ctx, func() (bool, error) {
		var answer bitbucket.Answer
		last, answer, err = v.get(ctx, v.runner.UUID)
		if err == nil && !answer.OK() {
			err = errors.New(said(answer))
		}
		return err == nil && (last.status() == string(bitbucket.StatusDisabled)) == want, err
	})
	return last, ok, err
}

// disable tries the route that the scaler uses to disable a runner, and enables it again.
func (v *visit) disable(ctx context.Context) error {
	answer, err := v.one(ctx, http.MethodPut, v.runner.UUID, true, "/state", state(bitbucket.StatusDisabled))
	if err != nil {
		return err
	}
	if !answer.OK() {
		v.note(keyDisable, DoesNotHold, "%s", said(answer))
		v.note(keyDisabledShows, NotSeen, "it could not be disabled")
		v.note(keyEnable, NotSeen, "it could not be disabled")
		return nil
	}
	runner, ok, err := v.disabled(ctx, true)
	if err != nil {
		v.note(keyDisable, NotSeen, "%d, but then it could not be read", answer.Status)
		return err
	}
	if !ok {
		v.note(keyDisable, DoesNotHold, "%d, but it shows %s, cordoned %s", answer.Status, runner.status(), orAbsent(runner, "cordoned"))
		v.note(keyDisabledShows, DoesNotHold, "it shows %s", runner.status())
		return nil
	}
	v.note(keyDisable, Holds, "%d, on a runner that never connected", answer.Status)
	v.note(keyDisabledShows, Holds, "it shows DISABLED, cordoned %s", orAbsent(runner, "cordoned"))
	return v.enable(ctx)
}

func orAbsent(runner shown, key string) string {
	if raw, ok := runner.State[key]; ok && len(raw) < 32 {
		return string(raw)
	}
	return "absent"
}

func (v *visit) enable(ctx context.Context) error {
	answer, err := v.one(ctx, http.MethodPut, v.runner.UUID, true, "/state", state(bitbucket.StatusEnabled))
	if err != nil {
		return err
	}
	if !answer.OK() {
		v.note(keyEnable, DoesNotHold, "%s", said(answer))
		return nil
	}
	runner, ok, err := v.disabled(ctx, false)
	if err != nil {
		return err
	}
	verdict := Holds
	if !ok {
		verdict = DoesNotHold
	}
	v.note(keyEnable, verdict, "%d, it shows %s", answer.Status, runner.status())
	return nil
}

// otherWays tries requests that API 2.0 might have instead of the internal route.
func (v *visit) otherWays(ctx context.Context) error {
	before, answer, err := v.get(ctx, v.runner.UUID)
	if err == nil && !answer.OK() {
		err = errors.New(said(answer))
	}
	if err != nil {
		return err
	}
	if before.status() == string(bitbucket.StatusDisabled) {
		v.note(keyPublicState, NotSeen, "it was disabled already, and could not be enabled")
		v.note(keyPublicPut, NotSeen, "it was disabled already, and could not be enabled")
		return nil
	}
	if err := v.otherWay(ctx, keyPublicState, "/state", state(bitbucket.StatusDisabled)); err != nil {
		return err
	}
	return v.otherWay(ctx, keyPublicPut, "", map[string]any{
		"name": v.name, "labels": v.labels(), "state": state(bitbucket.StatusDisabled),
	})
}

// otherWay tries to disable with a PUT below API 2.0. The fact is that it has no effect.
// The finding is the effect that it had.
func (v *visit) otherWay(ctx context.Context, key, suffix string, body any) error {
	answer, err := v.one(ctx, http.MethodPut, v.runner.UUID, false, suffix, body)
	if err != nil {
		return err
	}
	if !answer.OK() {
		v.note(key, Holds, "%s", said(answer))
		return nil
	}
	// One read is enough, because the previous route has shown the lag.
	runner, answered, err := v.get(ctx, v.runner.UUID)
	if err != nil {
		return err
	}
	if !answered.OK() || runner.status() != string(bitbucket.StatusDisabled) {
		verdict := Holds
		if suffix != "" { // the fact is that there is no such route
			verdict = DoesNotHold
		}
		v.note(key, verdict, "%d, and it shows %s", answer.Status, runner.status())
		return nil
	}
	v.note(key, DoesNotHold, "%d, it shows DISABLED", answer.Status)
	_, err = v.one(ctx, http.MethodPut, v.runner.UUID, true, "/state", state(bitbucket.StatusEnabled))
	return err
}

// changeLabels tries to change the runner's labels with a PUT.
func (v *visit) changeLabels(ctx context.Context) error {
	further := v.label + ".more"
	answer, err := v.one(ctx, http.MethodPut, v.runner.UUID, false, "", map[string]any{"name": v.name, "labels": append(v.labels(), further)})
	if err != nil {
		return err
	}
	if !answer.OK() {
		v.note(keyPutLabels, Holds, "%s", said(answer))
		return nil
	}
	runner, answered, err := v.get(ctx, v.runner.UUID)
	switch {
	case err != nil:
		return err
	case !answered.OK():
		return errors.New(said(answered))
	case slices.Contains(runner.Labels, further):
		v.note(keyPutLabels, DoesNotHold, "%d, it has one label more", answer.Status)
	default:
		v.note(keyPutLabels, Holds, "%d, and its labels are as before", answer.Status)
	}
	return nil
}

// refusals tries registrations that should be refused. It deletes accepted ones at once.
func (v *visit) refusals(ctx context.Context) error {
	if !v.Refusals {
		return nil
	}
	many := v.labels()
	for i := range 10 { // in addition to the existing one
		many = append(many, fmt.Sprintf("%s.%d", v.label, i))
	}
	const longest = 50
	for _, try := range []struct {
		key  string
		body registration
		// accepted is the verdict if it is accepted. conflict means that only 409 counts as
		// refused.
		accepted Verdict
		status   int
	}{
		{keySameName, registration{Name: v.name, Labels: v.labels()}, Holds, 0},
		{keyOwnUUID, registration{UUID: v.runner.UUID, Name: v.name + "-uuid", Labels: v.labels()}, DoesNotHold, http.StatusConflict},
		{keyLongName, registration{Name: v.name + strings.Repeat("x", longest+1-len(v.name)), Labels: v.labels()}, DoesNotHold, 0},
		{keyManyLabels, registration{Name: v.name + "-labels", Labels: many}, DoesNotHold, 0},
	} {
		runner, answer, err := v.post(ctx, try.body)
		if err != nil {
			return err
		}
		verdict := try.accepted
		if !answer.OK() {
			verdict = Holds
			if try.accepted == Holds || try.status != 0 && answer.Status != try.status {
				verdict = DoesNotHold
			}
		}
		v.note(try.key, verdict, "%s", said(answer))
		if answer.OK() && runner.UUID != v.runner.UUID {
			if _, err := v.delete(ctx, runner.UUID); err != nil {
				return err
			}
		}
	}
	return nil
}
