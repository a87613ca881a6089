package queue

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"k8s.io/utils/clock"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/bitbucket/pipelines"
	"bitbucket-runner-scaler/externalscaler/testbed/inprocess"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The emulator's workspace and its repositories app and web.
const (
	acme = emulator.WorkspaceUUID
	app  = emulator.AppRepositoryUUID
	web  = emulator.WebRepositoryUUID
	base = "http://bitbucket.test"
)

// rig is a Queue that reads an emulator, on a virtual clock.
type rig struct {
	*Queue
	t      *testing.T
	server *emulator.Server
	demand Demand
	// broke makes the budget refuse all reads.
	broke atomic.Bool
}

// client is a client whose budget a test can use up.
type client struct {
	Bitbucket
	broke *atomic.Bool
}

// Get implements Bitbucket.
func (c client) Get(ctx context.Context, class bitbucket.Class, route, path string, query url.Values) ([]byte, error) {
	if c.broke.Load() {
		return nil, bitbucket.ErrBudgetExhausted
	}
	return c.Bitbucket.Get(ctx, class, route, path, query)
}

// virtually runs a test with a rig whose groups are of one credentials set.
func virtually(t *testing.T, options emulator.Options, test func(r *rig), groups ...Group) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		server := emulator.New(options)
		r := &rig{t: t, server: server, demand: Demand{Groups: groups}}
		api, err := bitbucket.NewClient(bitbucket.Config{
			BaseURL: base, Transport: inprocess.Transport{Handler: server}, Credentials: bitbucket.Credentials{AccessToken: emulator.AccessToken},
			Budget: bitbucket.NewBudget(bitbucket.DefaultBudget, bitbucket.DefaultReserve, clock.RealClock{}),
		})
		if err != nil {
			t.Fatal(err)
		}
		q, err := New(Config{
			Client: func(string, string) (Bitbucket, error) { return client{api, &r.broke}, nil },
			Pacer:  func(string) Pacer { return api.Budget() },
		})
		if err != nil {
			t.Fatal(err)
		}
		r.Queue = q
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- q.Run(ctx) }()
		defer func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
			server.Close()
		}()
		for _, label := range []string{"x", "y"} { // steps wait for registered runners
			_, err := api.CreateRunner(ctx, bitbucket.Scope{Workspace: acme}, bitbucket.NewRunner{Name: label, Labels: pipelines.Runner("linux", label)})
			if err != nil {
				t.Fatal(err)
			}
		}
		q.Use(r.demand)
		test(r)
	})
}

// fleet is a group of the workspace or, with a UUID, of a repository, with a label.
func fleet(label, repository string) Group {
	return Group{
		Namespace: "ns", Name: label, Credentials: "default", Scope: bitbucket.Scope{Workspace: acme, Repository: repository},
		Labels: pipelines.Runner("linux", label), ByQueue: true,
	}
}

// wait lets time pass.
func (r *rig) wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// post calls a control of the emulator.
func (r *rig) post(path string, in, out any) {
	r.t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		r.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, base+"/_emulator"+path, bytes.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	resp, err := inprocess.Transport{Handler: r.server}.RoundTrip(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode > 299 {
		r.t.Fatalf("%s: %s", path, resp.Status)
	}
	if out != nil {
		if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
			r.t.Fatal(err)
		}
	}
}

// steps queues steps in a repository and returns the pipeline's UUID.
func (r *rig) steps(repository, label string, count int) string {
	r.t.Helper()
	var queued emulator.StepsQueued
	r.post("/steps", emulator.StepRequest{Workspace: "acme", Repository: repository, Labels: []string{"self.hosted", "linux", label}, Duration: "30s", Count: count}, &queued)
	return queued.Pipeline
}

// answers are what the groups get now.
func (r *rig) answers() []Answer {
	answers, _ := r.Snapshot().For(Input{Groups: r.demand.Groups, Now: time.Now()})
	return answers
}

// calls counts the calls so far whose route has a part.
func (r *rig) calls(part string) (n int) {
	for route, count := range r.server.State().Counters.Calls {
		if strings.Contains(route, part) {
			n += count
		}
	}
	return n
}
