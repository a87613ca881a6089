package clients

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/go-playground/webhooks/v6/bitbucket"

	"bitbucket-runner-scaler/bitbucket/emulator"
)

// TestGoPlaygroundWebhooks reads deliveries with github.com/go-playground/webhooks.
func TestGoPlaygroundWebhooks(t *testing.T) {
	s := newStage(t)
	hook, err := bitbucket.New()
	if err != nil {
		t.Fatal(err)
	}
	payloads := make(chan any, 100)
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		payload, err := hook.Parse(r, bitbucket.RepoPushEvent, bitbucket.RepoCommitStatusCreatedEvent,
			bitbucket.RepoCommitStatusUpdatedEvent, bitbucket.PullRequestCreatedEvent)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			payload = err
		}
		payloads <- payload
	}))
	t.Cleanup(receiver.Close)
	if err := s.control.AddWebhook(t.Context(), emulator.WebhookRequest{URL: receiver.URL, Events: []string{
		string(bitbucket.RepoPushEvent), string(bitbucket.RepoCommitStatusCreatedEvent), string(bitbucket.RepoCommitStatusUpdatedEvent),
	}}); err != nil {
		t.Fatal(err)
	}
	pushed, err := s.control.Push(t.Context(), emulator.PushRequest{Workspace: "acme", Repository: "app", Branch: "topic", File: file})
	if err != nil {
		t.Fatal(err)
	}
	push, ok := (<-payloads).(bitbucket.RepoPushPayload)
	if !ok || push.Repository.FullName != "acme/app" || len(push.Push.Changes) != 1 || push.Push.Changes[0].New.Target.Hash != pushed.Commit || !push.Push.Changes[0].Created {
		t.Errorf("push %+v", push)
	}
	created, ok := (<-payloads).(bitbucket.RepoCommitStatusCreatedPayload)
	if !ok || created.CommitStatus.State != "INPROGRESS" || !strings.HasSuffix(created.CommitStatus.Links.Commit.Href, "/commit/"+pushed.Commit) {
		t.Errorf("created %+v", created)
	}
	if err := s.control.StopPipeline(t.Context(), pushed.Pipeline); err != nil {
		t.Fatal(err)
	}
	updated, ok := (<-payloads).(bitbucket.RepoCommitStatusUpdatedPayload)
	if !ok || updated.CommitStatus.State != "STOPPED" || updated.CommitStatus.URL != created.CommitStatus.URL {
		t.Errorf("updated %+v", updated)
	}
	if page, err := url.Parse(created.CommitStatus.URL); err != nil || !strings.HasSuffix(page.String(), "/results/13") {
		t.Errorf("page %s, %v, want it to end in the build number", page, err)
	}
}
