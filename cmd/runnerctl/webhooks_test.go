package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bitbucket-runner-scaler/bitbucket/emulator"
)

// hooked is an emulator, and a receiver of what its webhooks deliver.
type hooked struct {
	t        *testing.T
	emulator string
	server   *emulator.Server
	url      string // of the receiver
	got      chan delivered
	token    string
}

type delivered struct{ event, body, signature string }

func newHooked(t *testing.T) *hooked {
	t.Helper()
	h := &hooked{t: t, got: make(chan delivered, 10), token: emulator.AccessToken}
	h.emulator, h.server = emulator.NewTestServer(t, emulator.Options{})
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		h.got <- delivered{r.Header.Get("X-Event-Key"), string(body), r.Header.Get("X-Hub-Signature")}
	}))
	t.Cleanup(receiver.Close)
	h.url = receiver.URL + "/webhooks/bitbucket"
	return h
}

// run runs a command about the webhooks of acme and wants an exit code.
func (h *hooked) run(code int, args ...string) result {
	h.t.Helper()
	args = append([]string{"webhooks", args[0], "--workspace", "acme", "--bitbucket-url", h.emulator}, args[1:]...)
	r := runs(h.t, map[string]string{"BITBUCKET_ACCESS_TOKEN": h.token}, "", args...)
	if r.code != code {
		h.t.Errorf("%q: exit code %d, want %d: %s", args, r.code, code, r.printed())
	}
	return r
}

// prints checks that a result contains texts.
func (h *hooked) prints(r result, want ...string) {
	h.t.Helper()
	for _, text := range want {
		if !strings.Contains(r.printed(), text) {
			h.t.Errorf("want %q in:\n%s", text, r.printed())
		}
	}
}

// writes returns how many calls changed a webhook.
func (h *hooked) writes() (n int) {
	for call, times := range h.server.State().Counters.Calls {
		if strings.Contains(call, "/hooks") && !strings.HasPrefix(call, "GET ") {
			n += times
		}
	}
	return n
}

// signedWith checks that a push is delivered with the signature of a secret.
func (h *hooked) signedWith(secret string) {
	h.t.Helper()
	if _, err := emulator.NewControl(h.emulator).QueueSteps(context.Background(), emulator.StepRequest{Workspace: "acme", Repository: "app", Labels: []string{"linux", "x"}, Duration: "1s", Count: 1}); err != nil {
		h.t.Fatal(err)
	}
	d := <-h.got
	sum := hmac.New(sha256.New, []byte(secret))
	sum.Write([]byte(d.body))
	if want := "sha256=" + hex.EncodeToString(sum.Sum(nil)); d.event != "repo:push" || d.signature != want {
		h.t.Errorf("got %s with the signature %s, want %s", d.event, d.signature, want)
	}
	for range 4 { // the statuses and spans of the pipeline
		<-h.got
	}
}

func TestAWebhookIsSetUpOnce(t *testing.T) {
	t.Parallel()
	h := newHooked(t)
	file := filepath.Join(t.TempDir(), "webhook.secret")
	h.prints(h.run(1, "ensure", "--url", h.url), "--secret-file: missing")

	r := h.run(0, "ensure", "--url", h.url, "--secret-file", file)
	h.prints(r, "acme: would create the webhook "+h.url, "events: repo:push, repo:commit_status_created, repo:commit_status_updated, pipeline:span_created",
		"secret: a random one, written to "+file, "plain HTTP", "Nothing was done. Add --yes to do it.")
	if _, err := os.Stat(file); err == nil || h.writes() != 0 {
		t.Errorf("a dry run wrote: %v, %d calls", err, h.writes())
	}

	r = h.run(0, "ensure", "--url", h.url, "--secret-file", file, "--yes")
	h.prints(r, "acme: created the webhook "+h.url, "kubectl create secret generic runner-bitbucket-credentials -n bitbucket-runner-scaler --from-file=webhookSecret="+file)
	secret, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 || len(secret) != 43 {
		t.Errorf("got %v, %v and %d characters, want 0600 and 43", info.Mode(), err, len(secret))
	}
	h.signedWith(string(secret))

	for range 2 {
		r = h.run(0, "ensure", "--url", h.url, "--secret-file", file, "--yes")
		h.prints(r, "acme: nothing to do", "its secret stays as it is")
		r = h.run(0, "ensure", "--url", h.url)
		h.prints(r, "acme: nothing to do")
	}
	if h.writes() != 1 {
		t.Errorf("%d calls changed webhooks, want 1", h.writes())
	}
	r = h.run(0, "list")
	h.prints(r, h.url, "bitbucket-runner-scaler", "acme has 1 webhook\n")
	h.prints(h.run(0, "list", "-o", "json"), `"secret_set": true`)
	if all := r.printed() + h.run(0, "list", "-o", "json").printed(); strings.Contains(all, string(secret)) {
		t.Errorf("the secret is printed: %s", all)
	}
}

func TestAWebhookThatDiffersIsChanged(t *testing.T) {
	t.Parallel()
	h := newHooked(t)
	dir := t.TempDir()
	file, next := filepath.Join(dir, "webhook.secret"), filepath.Join(dir, "next.secret")
	h.run(0, "ensure", "--url", h.url, "--secret-file", file, "--yes")
	secret, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}

	change := []string{"ensure", "--url", h.url, "--events", "repo:push,repo:commit_status_created,repo:commit_status_updated,pullrequest:created"}
	h.prints(h.run(0, change...), "would change", "events: pipeline:span_created, repo:commit_status_created, repo:commit_status_updated, repo:push -> pullrequest:created,")
	h.prints(h.run(0, append(change, "--yes")...), "changed the webhook")
	h.prints(h.run(0, append(change, "--yes")...), "nothing to do")
	h.prints(h.run(0, "ensure", "--url", h.url, "--yes"), "changed the webhook")
	h.signedWith(string(secret)) // a change leaves the secret as it is

	if err := os.WriteFile(next, []byte("the-next-secret-of-it\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := h.run(0, "ensure", "--url", h.url, "--rotate", "--secret-file", next, "--yes")
	h.prints(r, "changed the webhook", "secret: that of "+next)
	if strings.Contains(r.printed(), "the-next-secret") {
		t.Errorf("the secret is printed: %s", r.printed())
	}
	h.signedWith("the-next-secret-of-it")

	// A webhook with our description and another URL may be another installation's.
	other := strings.Replace(h.url, "127.0.0.1", "localhost", 1)
	h.prints(h.run(0, "ensure", "--url", other, "--secret-file", next), "would create", "another webhook has this description: "+h.url)
	h.prints(h.run(0, "ensure", "--url", other, "--description", "bitbucket-runner-scaler"), "would change", "url: "+h.url+" -> "+other)
}

func TestAWebhookIsRemovedOnce(t *testing.T) {
	t.Parallel()
	h := newHooked(t)
	file := filepath.Join(t.TempDir(), "webhook.secret")
	h.run(0, "ensure", "--url", h.url, "--secret-file", file, "--yes")
	h.run(0, "ensure", "--url", h.url+"/other", "--secret-file", file, "--yes")
	h.prints(h.run(0, "remove", "--url", h.url), "would remove the webhook "+h.url+"\n", "Nothing was done")
	h.prints(h.run(0, "list"), "acme has 2 webhooks")
	h.prints(h.run(2, "remove", "--description", "bitbucket-runner-scaler"), "2 webhooks of acme are meant, want one")
	h.prints(h.run(0, "remove", "--url", h.url, "--yes"), "removed the webhook "+h.url+"\n")
	h.prints(h.run(0, "remove", "--url", h.url, "--yes"), "acme: nothing to do")
	h.prints(h.run(0, "list"), h.url+"/other", "acme has 1 webhook\n")
	h.prints(h.run(0, "list", "--repository", "app"), "acme/app has 0 webhooks")
}

func TestTheScopeThatWebhooksNeedIsNamed(t *testing.T) {
	t.Parallel()
	h := newHooked(t)
	h.token = emulator.ReadOnlyToken
	h.prints(h.run(1, "ensure", "--url", h.url, "--secret-file", filepath.Join(t.TempDir(), "x"), "--yes"),
		"required [webhook]", "granted [account repository pipeline runner]", "give the credentials the right to manage webhooks")
}

func TestWrongCommandLinesOfWebhooks(t *testing.T) {
	t.Parallel()
	short := filepath.Join(t.TempDir(), "short")
	if err := os.WriteFile(short, []byte("short\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args []string
		want []string
	}{
		"nothing":         {[]string{"ensure"}, []string{"--workspace: missing", `--url: "", want https://HOST/webhooks/bitbucket`}},
		"many faults":     {[]string{"ensure", "--url", "runners.example.com", "--events", "repo:fork", "--secret-file", short, "--workspace", "a/b"}, []string{`--url: "runners`, `--events: "repo:fork", want some of`, "5 characters, want at least 16", `workspace "a/b"`}},
		"a user in a URL": {[]string{"ensure", "--workspace", "acme", "--url", "https://me:secret@x/"}, []string{"--url: "}},
		"rotate nothing":  {[]string{"ensure", "--workspace", "acme", "--url", "https://x/webhooks/bitbucket", "--rotate"}, []string{"--rotate: want --secret-file with a secret"}},
		"remove nothing":  {[]string{"remove", "--workspace", "acme"}, []string{`--url: ""`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := runs(t, nil, "", append([]string{"webhooks"}, c.args...)...)
			if r.code != 2 {
				t.Errorf("exit code %d, want 2", r.code)
			}
			for _, want := range c.want {
				if !strings.Contains(r.stderr, want) {
					t.Errorf("want %q in %s", want, r.stderr)
				}
			}
		})
	}
}
