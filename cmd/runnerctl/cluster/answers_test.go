package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"bitbucket-runner-scaler/externalscaler/status/api"
)

// answering serves answers to paths of the API.
func answering(t *testing.T, answers map[string]string) (address string) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprint(w, answers[strings.TrimPrefix(r.URL.Path, "/api/v1")])
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func TestANamespaceBoundsWhichRunnersAreMeant(t *testing.T) {
	address := answering(t, map[string]string{"/runners": `{"items":[{"group":"a/linux","name":"x","job":"x-job","node":"n1"},{"group":"b/linux","name":"y","job":"y-job","node":"n1"}]}`})
	for namespace, want := range map[string]string{"": "xy", "a": "x", "b": "y", "c": ""} {
		runners, err := (&target{address: address, namespace: namespace}).runners(t.Context())
		got := ""
		for _, r := range runners {
			got += r.Name
		}
		if err != nil || got != want {
			t.Errorf("namespace %q: %q, %v, want %q", namespace, got, err, want)
		}
	}
}

// As for explain: what is named in full is meant.
func TestAGroupThatIsNamedInFullIsShownWhateverTheNamespace(t *testing.T) {
	address := answering(t, map[string]string{
		"/installation": `{"problems":[{"kind":"AtMax","group":"b/linux"},{"kind":"AtMax","group":"a/linux"}]}`,
		"/groups":       `{"items":[{"namespace":"a","name":"linux"},{"namespace":"b","name":"linux"}]}`, "/groups/b/linux": `{}`,
	})
	code, stdout, stderr := ctl(t.Context(), "status", "b/linux", "-n", "a", "--address", address)
	if code != 0 || strings.Contains(stdout, "No runner groups") || strings.Contains(stdout, "a/linux") || strings.Count(stdout, "b/linux") != 2 {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
}

func TestANamespaceWithoutGroupsIsNotAScalerWithout(t *testing.T) {
	address := answering(t, map[string]string{"/installation": `{}`, "/groups": `{"items":[{"namespace":"a","name":"linux"}]}`})
	_, stdout, stderr := ctl(t.Context(), "status", "-n", "b", "--address", address)
	if !strings.Contains(stdout, `No runner groups in namespace "b".`) {
		t.Errorf("%s%s", stdout, stderr)
	}
}

func TestAJobWithoutARunnerHasNoUUID(t *testing.T) {
	for _, given := range []string{"", "{}", "}{"} {
		if named(api.Runner{Job: "linux-x7k2p"}, given) {
			t.Errorf("%q names a Job without a runner", given)
		}
	}
}

func TestRunnersThatAListLeavesOutAreFoundByTheirGroups(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprint(w, map[string]string{
			"/api/v1/runners":                 `{"items":[{"group":"a/linux","name":"x"}],"omitted":1}`,
			"/api/v1/groups":                  `{"items":[{"namespace":"a","name":"linux"},{"namespace":"b","name":"linux"}]}`,
			"/api/v1/runners?group=a%2Flinux": `{"items":[{"group":"a/linux","name":"x"}]}`,
			"/api/v1/runners?group=b%2Flinux": `{"items":[{"group":"b/linux","name":"y"}]}`,
		}[r.URL.String()])
	}))
	t.Cleanup(server.Close)
	runners, err := (&target{address: server.URL}).runners(t.Context())
	if err != nil || len(runners) != 2 || runners[1].Name != "y" {
		t.Errorf("%v, %v, want x and y", runners, err)
	}
}

// A scaler that stops leading ends its streams with an error. The next leader has what is watched.
func TestWatchGoesOnWithTheNextLeader(t *testing.T) {
	var streams atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		if streams.Add(1) == 1 {
			_, _ = fmt.Fprint(w, "event: update\ndata: 1\n\nevent: error\ndata: {\"error\":\"this replica does not lead\"}\n\n")
			return
		}
		_, _ = fmt.Fprint(w, "event: update\ndata: 2\n\n")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}))
	t.Cleanup(server.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var seen bytes.Buffer
	c := &client{http: server.Client(), base: server.URL, via: server.URL}
	err := c.watch(ctx, "/groups", func(data []byte) error {
		seen.Write(data)
		switch {
		case bytes.Contains(data, []byte("error")):
			return errors.New("the error was taken for an update")
		case bytes.Equal(data, []byte("2\n")):
			cancel()
		}
		return nil
	})
	if err != nil || seen.String() != "1\n2\n" {
		t.Errorf("%v, seen %q", err, seen.String())
	}
}
