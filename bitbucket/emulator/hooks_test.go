package emulator

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

func TestWebhooksOfWorkspacesAndRepositories(t *testing.T) {
	t.Parallel()
	for _, scope := range []string{"/2.0/workspaces/acme", "/2.0/repositories/acme/app"} {
		b := start(t, Options{})
		made := b.call(201, "POST", scope+"/hooks", `{"description":"d","url":"http://127.0.0.1:1/x","active":true,"events":["repo:push"],"secret":"s3cret"}`).body
		has(t, made, `{"type":"webhook_subscription","description":"d","url":"http://127.0.0.1:1/x","active":true,"events":["repo:push"],"secret_set":true}`)
		uuid := decode[struct {
			UUID string `json:"uuid"`
		}](t, made).UUID
		one := scope + "/hooks/" + url.PathEscape(uuid)
		has(t, b.call(200, "PUT", one, `{"events":["repo:push","pipeline:span_created"]}`).body, `{"url":"http://127.0.0.1:1/x","secret_set":true,"events":["repo:push","pipeline:span_created"]}`)
		has(t, b.call(200, "PUT", one, `{"active":false,"secret":""}`).body, `{"active":false,"secret_set":false}`)
		list := b.call(200, "GET", scope+"/hooks", "").body
		has(t, list, `{"size":1,"values":[{"uuid":"`+uuid+`"}]}`)
		if strings.Contains(made+list+b.call(200, "GET", one, "").body, "s3cret") {
			t.Errorf("the secret is shown: %s", list)
		}
		b.call(404, "GET", "/2.0/repositories/acme/web/hooks/"+url.PathEscape(uuid), "")
		for _, wrong := range []string{`{"url":"x","events":["repo:push"]}`, `{"url":"http://127.0.0.1:1/x"}`, `{"url":"http://127.0.0.1:1/x","events":["repo:nothing"]}`, `x`,
			`{"url":"http://127.0.0.1:1/x","events":["repo:push"],"secret":"` + strings.Repeat("x", 129) + `"}`} {
			b.call(400, "POST", scope+"/hooks", wrong)
		}
		b.call(204, "DELETE", one, "")
		b.call(404, "DELETE", one, "")
		has(t, b.call(200, "GET", scope+"/hooks", "").body, `{"size":0}`)
		b.auth = "Bearer " + ReadOnlyToken
		has(t, b.call(403, "GET", scope+"/hooks", "").body, `{"error":{"detail":{"required":["webhook"]}}}`)
	}
}

func TestAWebhookReceivesWhatHappensInItsScope(t *testing.T) {
	t.Parallel()
	b := start(t, Options{})
	got := make(chan string, 10)
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got <- r.URL.Path }))
	t.Cleanup(receiver.Close)
	add := func(scope, name string, active bool) {
		body, _ := json.Marshal(map[string]any{"url": receiver.URL + "/" + name, "active": active, "events": []string{"repo:push"}})
		b.call(201, "POST", scope+"/hooks", string(body))
	}
	add("/2.0/repositories/acme/web", "web", true)
	add("/2.0/repositories/acme/app", "off", false)
	add("/2.0/repositories/acme/app", "app", true)
	add("/2.0/workspaces/acme", "acme", true)
	b.push("main", file) // in app
	for _, want := range []string{"/app", "/acme"} {
		if received := <-got; received != want {
			t.Errorf("delivered to %s, want %s", received, want)
		}
	}
}
