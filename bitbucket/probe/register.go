package probe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"bitbucket-runner-scaler/bitbucket"
)

// minFree is how many places must be free in a scope, including the temporary runner's.
const minFree = 4

// before lists the existing runners. Only runners of others can show whether lists show
// steps.
func (v *visit) before(ctx context.Context) error {
	all, answer, err := v.list(ctx, false)
	switch {
	case errors.Is(err, errStopped):
		return err
	case err != nil:
		return stop("the runners of %s cannot be listed: %v", v.Scope, err)
	case !answer.OK():
		return stop("the runners of %s cannot be listed: %s", v.Scope, said(answer))
	}
	// The last places are for production runners.
	if free := scopeLimit - len(all); free > 0 && free < minFree {
		return stop("%d of %d places of %s are taken: the temporary runner could take the place of a production runner", len(all), scopeLimit, v.Scope)
	}
	v.noteSteps(keyStep, all)
	for _, runner := range all {
		if strings.HasPrefix(runner.Name, NamePrefix) {
			v.earlier = append(v.earlier, runner.Name+" "+runner.UUID)
		}
	}
	internal, answer, err := v.list(ctx, true)
	switch {
	case err != nil:
		return err
	case !answer.OK():
		v.note(keyInternalStep, DoesNotHold, "%s", said(answer))
	default:
		v.noteSteps(keyInternalStep, internal)
	}
	return nil
}

// noteSteps records whether a list shows a step. If none does, a later check may find one.
func (v *visit) noteSteps(key string, all []shown) {
	if slices.ContainsFunc(all, func(r shown) bool { return r.step() == stepGiven }) {
		v.note(key, Holds, "the list shows a busy runner's step")
	}
}

// registration is the body of a POST.
type registration struct {
	UUID   string   `json:"uuid,omitempty"`
	Name   string   `json:"name"`
	Labels []string `json:"labels"`
}

// post registers a runner and records that it must be deleted. It finishes the registration
// even if ctx ends, because an interrupted one would leave an unknown runner.
func (v *visit) post(ctx context.Context, body registration) (shown, bitbucket.Answer, error) {
	if err := ctx.Err(); err != nil {
		return shown{}, bitbucket.Answer{}, err
	}
	request := bitbucket.RunnersRequest(http.MethodPost, v.Scope, false)
	request.Body = body
	answer, err := v.call(context.WithoutCancel(ctx), request)
	if errors.Is(err, bitbucket.ErrOutcomeUnknown) || answer.Status >= http.StatusInternalServerError {
		v.doubtful = true
	}
	if err != nil || !answer.OK() {
		return shown{}, answer, err
	}
	var runner shown
	if err := json.Unmarshal(answer.Body, &runner); err != nil || runner.UUID == "" {
		v.doubtful = true
		return shown{}, answer, errors.New("the answer to a registration has no runner")
	}
	v.mine[runner.UUID] = body.Name
	if secret := runner.OAuthClient.Secret; secret != "" {
		v.secrets = append(v.secrets, secret)
	}
	return runner, answer, nil
}

func (v *visit) labels() []string { return []string{"self.hosted", "linux", v.label} }

func (v *visit) register(ctx context.Context) error {
	runner, answer, err := v.post(ctx, registration{Name: v.name, Labels: v.labels()})
	switch {
	case errors.Is(err, errStopped):
		return err
	case err != nil:
		return stop("the registration failed: %v", err)
	}
	if !answer.OK() {
		v.noteRefusal(answer)
		return stop("the registration was refused: %s", said(answer))
	}
	v.runner = runner
	if v.Kind == bitbucket.KindAccessToken {
		v.note(keyAccessToken, Holds, "this one may")
	} else {
		v.note(keyAccessToken, NotSeen, "the credentials are of the kind %s", v.Kind)
	}
	v.note(keyLimit, NotSeen, "the scope is not full")
	found := fmt.Sprintf("%d, %s", answer.Status, runner.status())
	if (answer.Status == http.StatusOK || answer.Status == http.StatusCreated) && runner.OAuthClient.ID != "" && runner.OAuthClient.Secret != "" && runner.status() == string(bitbucket.StatusUnregistered) {
		v.note(keyRegister, Holds, "%s, with the secret", found)
	} else {
		v.note(keyRegister, DoesNotHold, "%s, id %t, secret %t", found, runner.OAuthClient.ID != "", runner.OAuthClient.Secret != "")
	}
	v.noteDates(runner, answer)
	return nil
}

func (v *visit) noteRefusal(answer bitbucket.Answer) {
	if v.Kind == bitbucket.KindAccessToken && answer.Status == http.StatusForbidden {
		v.note(keyAccessToken, DoesNotHold, "%s", said(answer))
	}
	// The scaler relies on the client's interpretation of the text.
	refusal := &bitbucket.APIError{Status: answer.Status, Message: answer.Message}
	if errors.Is(refusal, bitbucket.ErrRunnerLimit) {
		v.note(keyLimit, Holds, "%s", said(answer))
	}
}

// sameTime is the accepted difference between two of Bitbucket's clocks.
const sameTime = 5 * time.Second

func (v *visit) noteDates(runner shown, answer bitbucket.Answer) {
	created, err := time.Parse(time.RFC3339Nano, runner.CreatedOn)
	switch {
	case answer.Date.IsZero():
		v.note(keyDates, DoesNotHold, "the answer has no Date")
	case err != nil:
		v.note(keyDates, DoesNotHold, "created_on is not a time")
	default:
		apart := created.Sub(answer.Date).Abs().Round(time.Second)
		verdict := Holds
		if apart > sameTime {
			verdict = DoesNotHold
		}
		v.note(keyDates, verdict, "%v apart", apart)
	}
}

// listed waits for a list to show the runner.
func (v *visit) listed(ctx context.Context) error {
	var all []shown
	took, ok, err := v.until(ctx, func() (found bool, err error) {
		var answer bitbucket.Answer
		all, answer, err = v.list(ctx, false)
		if err == nil && !answer.OK() {
			err = errors.New(said(answer))
		}
		_, found = find(all, v.runner.UUID)
		return found, err
	})
	switch {
	case err != nil:
		return err
	case ok:
		v.note(keyCreateLag, Holds, "after %v", took)
	default:
		v.note(keyCreateLag, DoesNotHold, "not after %v", took)
	}
	v.noteSteps(keyStep, all)
	if mine, ok := find(all, v.runner.UUID); ok && mine.OAuthClient.Secret != "" {
		v.note(keySecretOnce, DoesNotHold, "the list has it")
	}
	return nil
}

// read reads the runner.
func (v *visit) read(ctx context.Context) error {
	runner, answer, err := v.get(ctx, v.runner.UUID)
	if err == nil && !answer.OK() {
		err = errors.New(said(answer))
	}
	if err != nil {
		return err
	}
	if runner.OAuthClient.Secret != "" {
		v.note(keySecretOnce, DoesNotHold, "GET has it")
	}
	v.note(keySecretOnce, Holds, "neither list nor GET has it")
	given, got := v.labels(), slices.Clone(runner.Labels)
	slices.Sort(given)
	slices.Sort(got)
	if slices.Equal(given, got) {
		v.note(keyLabels, Holds, "as given")
	} else {
		v.note(keyLabels, DoesNotHold, "given %s, got %s", strings.Join(given, ","), strings.Join(got, ","))
	}
	found := map[step]string{stepAbsent: "`step` is absent", stepNull: "`step` is null", stepGiven: "`step` is given"}[runner.step()]
	v.note(keyStep, NotSeen, "no runner of this scope showed a step; on an idle one %s: look again while a runner works", found)
	v.note(keyInternalStep, NotSeen, "the list is there, and no runner of this scope showed a step")
	return nil
}
