package probe

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"bitbucket-runner-scaler/bitbucket"
)

// shown is a runner as Bitbucket shows it. Unlike the client's Runner, it shows which keys
// the answer has.
type shown struct {
	UUID        string                     `json:"uuid"`
	Name        string                     `json:"name"`
	Labels      []string                   `json:"labels"`
	CreatedOn   string                     `json:"created_on"`
	State       map[string]json.RawMessage `json:"state"`
	OAuthClient struct {
		ID     string `json:"id"`
		Secret string `json:"secret"`
	} `json:"oauth_client"`
}

func (s shown) status() string {
	var status string
	if json.Unmarshal(s.State["status"], &status) != nil {
		return ""
	}
	return status
}

// step returns how the answer shows the step.
type step int

const (
	stepAbsent step = iota
	stepNull
	stepGiven
)

func (s shown) step() step {
	raw, ok := s.State["step"]
	switch {
	case !ok:
		return stepAbsent
	case bytes.Equal(bytes.TrimSpace(raw), []byte("null")):
		return stepNull
	}
	return stepGiven
}

// said returns an answer in a few words.
func said(a bitbucket.Answer) string {
	if a.Message == "" {
		return strconv.Itoa(a.Status)
	}
	return fmt.Sprintf("%d: %s", a.Status, a.Message)
}

// call makes a call. It returns an error if Bitbucket is unreachable, throttles or refuses
// the credentials, because such an answer shows nothing about a fact.
func (v *visit) call(ctx context.Context, request bitbucket.Request) (bitbucket.Answer, error) {
	answer, err := v.Client.Exchange(ctx, request)
	switch {
	case err != nil:
		return answer, err
	case answer.Status == http.StatusTooManyRequests, answer.Status == http.StatusUnauthorized:
		return answer, stop("%s %s: %s", request.Method, request.Route, said(answer))
	case answer.Status >= http.StatusInternalServerError:
		return answer, fmt.Errorf("%s %s: %s", request.Method, request.Route, said(answer))
	}
	return answer, nil
}

// one makes a call of one runner.
func (v *visit) one(ctx context.Context, method, uuid string, internal bool, suffix string, body any) (bitbucket.Answer, error) {
	request, err := bitbucket.RunnerRequest(method, v.Scope, uuid, internal)
	if err != nil {
		return bitbucket.Answer{}, err
	}
	request.Route, request.Path, request.Body = request.Route+suffix, request.Path+suffix, body
	return v.call(ctx, request)
}

// get reads one runner.
func (v *visit) get(ctx context.Context, uuid string) (shown, bitbucket.Answer, error) {
	answer, err := v.one(ctx, http.MethodGet, uuid, false, "", nil)
	if err != nil {
		return shown{}, answer, err
	}
	if !answer.OK() {
		return shown{}, answer, nil
	}
	var runner shown
	if err := json.Unmarshal(answer.Body, &runner); err != nil {
		return shown{}, answer, fmt.Errorf("decode runner: %w", err)
	}
	return runner, answer, nil
}

// maxPages bounds a list. A scope has at most 100 runners, which are ten pages if the
// server ignores the page length.
const maxPages = 20

// list reads all runners of the scope. If an answer is not a 2xx, list returns it without
// runners.
func (v *visit) list(ctx context.Context, internal bool) ([]shown, bitbucket.Answer, error) {
	var all []shown
	for number := 1; number <= maxPages; number++ {
		request := bitbucket.RunnersRequest(http.MethodGet, v.Scope, internal)
		request.Query = url.Values{"pagelen": {"100"}}
		if number > 1 {
			request.Query.Set("page", strconv.Itoa(number))
		}
		answer, err := v.call(ctx, request)
		if err != nil || !answer.OK() {
			return nil, answer, err
		}
		var page struct {
			Values *[]shown `json:"values"`
			Size   int      `json:"size"`
		}
		if err := json.Unmarshal(answer.Body, &page); err != nil {
			return nil, answer, fmt.Errorf("decode list of runners: %w", err)
		}
		if page.Values == nil {
			return nil, answer, errors.New("decode list of runners: no values in the answer")
		}
		all = append(all, *page.Values...)
		if len(*page.Values) == 0 || len(all) >= page.Size {
			return all, answer, nil
		}
	}
	return nil, bitbucket.Answer{}, fmt.Errorf("the list has no end after %d pages", maxPages)
}

func find(all []shown, uuid string) (shown, bool) {
	for _, runner := range all {
		if runner.UUID == uuid {
			return runner, true
		}
	}
	return shown{}, false
}
