package webhook_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap/zaptest"

	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/externalscaler/credentials"
	"bitbucket-runner-scaler/externalscaler/queue"
	"bitbucket-runner-scaler/externalscaler/webhook"
)

type hints chan queue.Hint

// Hint implements webhook.Hints.
func (h hints) Hint(hint queue.Hint) { h <- hint }

// TestDeliveriesOfBitbucketBecomeHints plays pipelines at the emulator, whose webhooks
// deliver to a handler with a mounted Secret.
func TestDeliveriesOfBitbucketBecomeHints(t *testing.T) {
	t.Parallel()
	const secret = "secret-of-the-webhook"
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "team"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"webhookSecret": secret + "\n", "workspaces": "acme " + emulator.WorkspaceUUID} {
		if err := os.WriteFile(filepath.Join(dir, "team", name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got := make(hints, 100)
	handler := webhook.New(webhook.Config{
		Secrets: credentials.NewStore(dir, func(string) (string, bool) { return "", false }, nil),
		Hints:   got, Leads: func() bool { return true }, Logger: zaptest.NewLogger(t),
	})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { handler.Run(ctx) })
	defer func() { cancel(); running.Wait() }()
	server := httptest.NewServer(handler)
	defer server.Close()

	url, _ := emulator.NewTestServer(t, emulator.Options{})
	call(t, url+"/_emulator/webhooks", emulator.WebhookRequest{URL: server.URL + webhook.Path, Secret: secret})
	call(t, url+"/_emulator/webhooks", emulator.WebhookRequest{URL: server.URL + webhook.Path, Secret: "another-secret-of-it"})
	at := queue.Hint{Credentials: "team", Workspace: emulator.WorkspaceUUID, Repository: emulator.AppRepositoryUUID}
	want := func(hint queue.Hint) {
		t.Helper()
		select {
		case got := <-got:
			if diff := cmp.Diff(hint, got); diff != "" {
				t.Error(diff)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("no hint, want %+v", hint)
		}
	}
	// Nobody takes the steps, so the pipelines end at once. Odd and even builds differ in
	// the forms that vary at Bitbucket.
	for number := 1; number <= 2; number++ {
		var queued emulator.StepsQueued
		answer := call(t, url+"/_emulator/steps", map[string]any{"workspace": "acme", "repository": "app", "labels": []string{"linux", "nobody"}, "duration": "1s", "count": 1})
		if err := json.Unmarshal(answer, &queued); err != nil {
			t.Fatal(err)
		}
		build, pipeline := at, at
		build.Build, pipeline.Pipeline = number, queued.Pipeline
		want(at)       // the push
		want(build)    // the status of the commit
		want(pipeline) // the end of the step
		build.Over, pipeline.Over = true, true
		want(build)    // the end of the pipeline, as a status
		want(pipeline) // and as a span
	}
	call(t, url+"/_emulator/events", map[string]string{"workspace": "acme", "repository": "app", "event": "pullrequest:fulfilled", "branch": "main"})
	want(at)
}

// call makes a call to the emulator and returns its answer.
func call(t *testing.T, url string, body any) []byte {
	t.Helper()
	data, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Post(url, "application/json", bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var answer bytes.Buffer
	if _, err := answer.ReadFrom(resp.Body); err != nil || resp.StatusCode >= 300 {
		t.Fatalf("%s: status %d, %v: %s", url, resp.StatusCode, err, answer.String())
	}
	return answer.Bytes()
}
