package controlplane_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"

	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/externalscaler/status/api"
	"bitbucket-runner-scaler/externalscaler/testbed"
)

// described is the API's own description.
func described(t *testing.T) routers.Router {
	t.Helper()
	document, err := openapi3.NewLoader().LoadFromData(api.Description)
	if err != nil {
		t.Fatal(err)
	}
	router, err := legacy.NewRouter(document)
	if err != nil {
		t.Fatal(err)
	}
	return router
}

// get asks the API, and holds the answer against its description.
func (p *plane) get(router routers.Router, path string, header http.Header) (*http.Response, []byte) {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, "http://"+p.HTTPAddress+"/api/v1"+path, http.NoBody)
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header = header.Clone()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	described, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, "/api/v1"+path, http.NoBody)
	if err != nil {
		p.t.Fatal(err)
	}
	route, parameters, err := router.FindRoute(described)
	if err != nil {
		return resp, body // an unknown route
	}
	input := &openapi3filter.RequestValidationInput{Request: described, PathParams: parameters, Route: route}
	answer := &openapi3filter.ResponseValidationInput{RequestValidationInput: input, Status: resp.StatusCode, Header: resp.Header, Body: io.NopCloser(bytes.NewReader(body)), Options: &openapi3filter.Options{IncludeResponseStatus: true}}
	if err := openapi3filter.ValidateResponse(p.t.Context(), answer); err != nil {
		p.t.Errorf("GET %s: the answer is not as described: %v\n%s", path, err, body)
	}
	return resp, body
}

func TestTheAPIAnswersAsItIsDescribed(t *testing.T) {
	p := startIn(t, testbed.Config{Emulator: emulator.Options{RateLimit: 1 << 20}, Webhooks: true}, quick(), map[string]string{"repository": "app", "strategy": "queuedSteps", "max": "1"})
	if _, err := p.Control.QueueSteps(t.Context(), emulator.StepRequest{Workspace: "acme", Repository: "app", Labels: []string{"linux", "nobody"}, Duration: "1m", Count: 2}); err != nil {
		t.Fatal(err)
	}
	router := described(t)
	var steps api.Items[api.Step]
	p.until("steps", func() bool {
		_, body := p.get(router, "/steps", nil)
		if err := json.Unmarshal(body, &steps); err != nil {
			t.Fatal(err)
		}
		return len(steps.Items) > 0
	})
	const group = "/groups/ns/builds"
	for _, path := range []string{
		"/installation", "/problems", "/groups", "/groups?namespace=ns", group, group + "/decisions", group + "/runners", group + "/steps", group + "/history",
		"/decisions", "/decisions?group=ns/builds", "/history", "/runners", "/runners?group=ns/builds", "/steps?state=waiting", "/steps?repository=acme/app&build=1", "/steps/" + steps.Items[0].UUID,
		"/steps/" + strings.Trim(steps.Items[0].UUID, "{}"),
	} {
		resp, body := p.get(router, path, nil)
		if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "application/json" {
			t.Errorf("GET %s: %s: %s", path, resp.Status, body)
		}
	}
	for path, want := range map[string]string{
		"/groups?colour=red":              "colour: no such parameter, want one of watch, namespace",
		"/steps?state=lost&group=builds":  `group: "builds", want NAMESPACE/NAME; state: "lost", want one of waiting`,
		"/steps?build=0":                  `build: "0", want a build number of a repository that is given too`,
		"/groups?watch=yes":               `watch: "yes", want true or false`,
		"/groups/ns/other":                `group: "ns/other" is not known, want one of: ns/builds`,
		"/groups/ns/builds/colours":       `"colours": a group has no such list`,
		"/runners?group=ns/none":          `group: "ns/none" is not known`,
		"/steps?group=ns/none":            `group: "ns/none" is not known`,
		"/decisions?group=ns/none":        `group: "ns/none" is not known`,
		"/steps/{0-0}":                    `step: "{0-0}" is not known`,
		"/colours":                        "there is no such route",
		"/runners?group=ns%ZZ/builds":     `the query cannot be read: invalid URL escape "%ZZ"`,
		"/steps?state=waiting;group=ns/b": "the query cannot be read: ",
		"/groups?namespace=a&namespace=b": "namespace: given more than once",
	} {
		resp, body := p.get(router, path, nil)
		var fault api.Error
		if err := json.Unmarshal(body, &fault); err != nil || resp.StatusCode/100 != 4 || !strings.Contains(fault.Error, want) {
			t.Errorf("GET %s: %s: %s, want %q", path, resp.Status, body, want)
		}
	}
}

func TestAnAnswerThatHasNotChangedIsNotSentAgain(t *testing.T) {
	p := start(t, quick(), nil)
	router := described(t)
	p.until("an answer that stays", func() bool {
		resp, _ := p.get(router, "/groups/ns/builds/decisions", nil)
		tag := resp.Header.Get("ETag")
		again, body := p.get(router, "/groups/ns/builds/decisions", http.Header{"If-None-Match": {`"other", W/` + tag}})
		return tag != "" && again.StatusCode == http.StatusNotModified && len(body) == 0
	})
	resp, _ := p.get(router, "/groups/ns/builds/decisions", http.Header{"If-None-Match": {`"other"`}})
	if resp.StatusCode != http.StatusOK {
		t.Errorf("with another tag: %s", resp.Status)
	}
}

func TestTheAPIOnlyReads(t *testing.T) {
	p := start(t, quick(), nil)
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+p.HTTPAddress+"/api/v1/groups", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusMethodNotAllowed || resp.Header.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: %s, Allow: %q", method, resp.Status, resp.Header.Get("Allow"))
		}
	}
}

// TestAWatchShowsEachChange also outlives the server's timeouts for ordinary requests, and ends with
// the server.
func TestAWatchShowsEachChange(t *testing.T) {
	virtually(t, 1, func(w *world) {
		group := w.apply("fleet", "w0", map[string]string{"max": "3"}, works)
		w.after(5 * time.Minute)
		resp, err := w.current().http.Get("http://scaler/api/v1/groups/ns/fleet/decisions?watch=true")
		if err != nil {
			w.t.Error(err)
			return
		}
		defer func() { _ = resp.Body.Close() }()
		if got := resp.Header.Get("Content-Type"); got != "text/event-stream" {
			w.t.Errorf("Content-Type %q", got)
		}
		events := make(chan api.Items[api.Decision], 100)
		go read(resp.Body, events)
		first := <-events
		w.after(time.Hour)
		w.cluster.Change(group.UID, "2", map[string]string{"min": "3"})
		for shown := range events {
			if len(shown.Items) > len(first.Items) && shown.Items[0].Desired == 3 {
				return
			}
		}
		w.t.Error("the stream ended without the change")
	})
}

// read reads the values of a stream of server-sent events, and closes events at its end.
func read[T any](stream io.Reader, events chan<- T) {
	defer close(events)
	lines, data := bufio.NewScanner(stream), ""
	for lines.Scan() {
		switch field, value, _ := strings.Cut(lines.Text(), ": "); field {
		case "data":
			data += value
		case "":
			var shown T
			if data != "" && json.Unmarshal([]byte(data), &shown) == nil {
				events <- shown
			}
			data = ""
		}
	}
}

func TestThePageCanBeLeftOut(t *testing.T) {
	for name, c := range map[string]struct {
		noPage       bool
		want, notYet string
	}{
		"with it":    {false, "<title>", "bitbucket-runner-scaler: /api/v1"},
		"without it": {true, "bitbucket-runner-scaler: /api/v1", "<title>"},
	} {
		t.Run(name, func(t *testing.T) {
			config := quick()
			config.NoPage = c.noPage
			p := start(t, config, nil)
			resp, err := http.Get("http://" + p.HTTPAddress + "/") //nolint:noctx // of a test
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = resp.Body.Close() }()
			body, err := io.ReadAll(resp.Body)
			if err != nil || !strings.Contains(string(body), c.want) || strings.Contains(string(body), c.notYet) {
				t.Errorf("%v: %s", err, body)
			}
		})
	}
}
