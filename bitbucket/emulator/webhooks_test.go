package emulator

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

type event struct {
	key     string
	payload string
}

// events registers a webhook and returns what it receives.
func (b *bench) events(keys ...string) <-chan event {
	b.t.Helper()
	got := make(chan event, 100)
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- event{r.Header.Get("X-Event-Key"), string(body)}
	}))
	b.t.Cleanup(receiver.Close)
	body, err := json.Marshal(WebhookRequest{URL: receiver.URL, Secret: "s3cret", Events: keys})
	if err != nil {
		b.t.Fatal(err)
	}
	b.call(200, "POST", "/_emulator/webhooks", string(body))
	return got
}

func next(t *testing.T, events <-chan event, key string) string {
	t.Helper()
	got := <-events
	if got.key != key {
		t.Fatalf("got %s %s, want %s", got.key, got.payload, key)
	}
	return got.payload
}

// has checks that a payload contains all of a part, given as JSON.
func has(t *testing.T, payload, part string) {
	t.Helper()
	whole, want := decode[any](t, payload), decode[any](t, part)
	if got := cut(whole, want); !cmp.Equal(got, want) {
		t.Errorf("payload: %s", cmp.Diff(want, got))
	}
}

// cut returns the parts of a value that another one has too.
func cut(whole, part any) any {
	switch part := part.(type) {
	case map[string]any:
		from, _ := whole.(map[string]any)
		kept := map[string]any{}
		for name, below := range part {
			kept[name] = cut(from[name], below)
		}
		return kept
	case []any:
		from, _ := whole.([]any)
		var kept []any
		for i, value := range from {
			if i < len(part) {
				value = cut(value, part[i])
			}
			kept = append(kept, value)
		}
		return kept
	}
	return whole
}

func TestAPipelinesLifeIsDelivered(t *testing.T) {
	t.Parallel()
	b := start(t, Options{})
	runner := b.online("my.group")
	events := b.events()
	b.queue(1, "my.group")
	p := b.pipeline("1")
	page := b.url + "/acme/app/pipelines/results/1"
	has(t, next(t, events, "repo:push"), `{"repository":{"full_name":"acme/app","workspace":{"slug":"acme"}},
		"push":{"changes":[{"new":{"type":"branch","name":"main","target":{"hash":"`+p.Target.Commit.Hash+`"}},"created":false}]}}`)
	commit := `"links":{"commit":{"href":"` + p.Target.Commit.Links["self"].Href + `"}}`
	has(t, next(t, events, "repo:commit_status_created"), `{"repository":{"full_name":"acme/app","uuid":"`+AppRepositoryUUID+`","workspace":{"slug":"acme","uuid":"`+WorkspaceUUID+`"}},
		"commit_status":{"state":"INPROGRESS","type":"build","url":"`+page+`",`+commit+`}}`)
	b.set(runner, ActionIdle, "")
	attributes := `{"key":"pipeline.account.uuid","value":{"stringValue":"` + WorkspaceUUID + `"}},
		{"key":"pipeline.repository.uuid","value":{"stringValue":"` + AppRepositoryUUID + `"}},
		{"key":"pipeline.uuid","value":{"stringValue":"` + p.UUID + `"}}`
	spans := next(t, events, "pipeline:span_created")
	for _, want := range []string{`"name":"bbc.pipeline_step"`, `"name":"bbc.command"`, `"name":"bbc.pipeline_container"`, `"stringValue":"COMPLETE"`, `pipeline.account.uuid`} {
		if !strings.Contains(spans, want) {
			t.Errorf("spans of the step lack %s: %s", want, spans)
		}
	}
	if strings.Contains(spans, "acme") {
		t.Errorf("spans name the repository: %s", spans)
	}
	has(t, next(t, events, "repo:commit_status_updated"), `{"commit_status":{"state":"SUCCESSFUL","url":"`+page+`"}}`)
	run := next(t, events, "pipeline:span_created")
	var decoded struct {
		ResourceSpans []struct {
			ScopeSpans []struct {
				Spans []struct {
					Name       string `json:"name"`
					Attributes []any  `json:"attributes"`
				} `json:"spans"`
			} `json:"scopeSpans"`
		} `json:"resourceSpans"`
	}
	if err := json.Unmarshal([]byte(run), &decoded); err != nil {
		t.Fatal(err)
	}
	span := decoded.ResourceSpans[0].ScopeSpans[0].Spans[0]
	want := decode[[]any](t, "["+attributes+`,{"key":"pipeline_run.run_number","value":{"stringValue":"1"}}]`)
	if span.Name != "bbc.pipeline_run" || !cmp.Equal(span.Attributes[:4], want) {
		t.Errorf("span %s: %s", span.Name, cmp.Diff(want, span.Attributes[:4]))
	}
}

func TestBothFormsOfWhatVariesAreDelivered(t *testing.T) {
	t.Parallel()
	b := start(t, Options{})
	b.queue(1, "nobody")
	events := b.events("repo:commit_status_updated", "pipeline:span_created")
	b.queue(1, "nobody") // build number 2
	if step := next(t, events, "pipeline:span_created"); !strings.Contains(step, `"name":"bbc.step"`) {
		t.Errorf("step %s", step)
	}
	has(t, next(t, events, "repo:commit_status_updated"), `{"commit_status":{"state":"FAILED","url":"`+b.url+`/acme/app/addon/pipelines/home#!/results/2"}}`)
	if run := next(t, events, "pipeline:span_created"); !strings.Contains(run, `"intValue":1`) {
		t.Errorf("run %s", run)
	}
}

func TestStoppedPipelinesAreDeliveredAsStopped(t *testing.T) {
	t.Parallel()
	b := start(t, Options{})
	b.set(b.online("my.group"), ActionStep, "")
	b.queue(1, "my.group")
	events := b.events("repo:commit_status_updated")
	b.call(204, "POST", appPipelines+"/1/stopPipeline", "")
	has(t, next(t, events, "repo:commit_status_updated"), `{"commit_status":{"state":"STOPPED"}}`)
}

func TestEventsOfPullRequestsAreSentByHand(t *testing.T) {
	t.Parallel()
	b := start(t, Options{})
	events := b.events("pullrequest:created", "pullrequest:fulfilled")
	head := b.push("feature/x", "pipelines: {}").Commit
	for key, state := range map[string]string{"pullrequest:created": "OPEN", "pullrequest:fulfilled": "MERGED"} {
		b.call(204, "POST", "/_emulator/events", `{"workspace":"acme","repository":"app","event":"`+key+`","branch":"feature/x"}`)
		has(t, next(t, events, key), `{"pullrequest":{"state":"`+state+`","source":{"branch":{"name":"feature/x"},"commit":{"hash":"`+head[:12]+`"}},
			"destination":{"branch":{"name":"main"}}},"repository":{"full_name":"acme/app"}}`)
	}
	for _, wrong := range []string{
		`{"workspace":"acme","repository":"app","event":"repo:push","branch":"main"}`,
		`{"workspace":"acme","repository":"nope","event":"pullrequest:created","branch":"main"}`,
		`{"workspace":"acme","repository":"app","event":"pullrequest:created","branch":"nope"}`,
	} {
		b.call(400, "POST", "/_emulator/events", wrong)
	}
}

func TestWebhooksAreListedWithoutTheirSecrets(t *testing.T) {
	t.Parallel()
	b := start(t, Options{})
	events := b.events("repo:push")
	b.push("main", file)
	next(t, events, "repo:push")
	list := b.call(200, "GET", "/_emulator/webhooks", "").body
	if strings.Contains(list, "s3cret") || !strings.Contains(list, `"events":["repo:push"]`) {
		t.Errorf("list %s", list)
	}
	uuid := decode[struct {
		Hooks []struct {
			UUID string `json:"uuid"`
		} `json:"hooks"`
	}](t, list).Hooks[0].UUID
	b.call(204, "DELETE", "/_emulator/webhooks/"+url.PathEscape(uuid), "")
	b.call(404, "DELETE", "/_emulator/webhooks/"+url.PathEscape(uuid), "")
	b.call(400, "POST", "/_emulator/webhooks", `{"url":"x"}`)
}
