package controlplane_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/externalscaler/testbed/inprocess"
)

const bitbucketURL = "http://bitbucket.test"

// workspacesOf returns so many workspaces, w0 and so on, with a repository each.
func workspacesOf(n int) (all []emulator.Workspace) {
	for i := range n {
		uuid := "{00000000-0000-4000-8000-" + strconv.Itoa(100_000_000_000+i) + "}"
		repository := "{10000000-0000-4000-8000-" + strconv.Itoa(100_000_000_000+i) + "}"
		all = append(all, emulator.Workspace{
			UUID: uuid, Slug: "w" + strconv.Itoa(i), Repositories: []emulator.Repository{{UUID: repository, Slug: "app"}},
		})
	}
	return all
}

// post calls a control of the emulator.
func (w *world) post(path string, in any) {
	w.t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		w.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, bitbucketURL+"/_emulator"+path, bytes.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	resp, err := inprocess.Transport{Handler: w.server}.RoundTrip(req)
	if err != nil {
		w.t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode > 299 {
		w.t.Fatalf("%s: %s", path, resp.Status)
	}
}

// faults replaces the faults of Bitbucket.
func (w *world) faults(rules ...emulator.FaultRule) {
	w.t.Helper()
	w.post("/faults", emulator.FaultRules{Rules: append([]emulator.FaultRule{}, rules...)})
}

// queue queues steps for a group.
func (w *world) queue(workspace, group string, count int, duration time.Duration) {
	w.t.Helper()
	w.post("/steps", emulator.StepRequest{
		Workspace: workspace, Repository: "app", Labels: []string{"self.hosted", "linux", labelOf(group)}, Duration: duration.String(), Count: count,
	})
}

// steps queues a step for a group at these intervals, until the world ends.
func (w *world) steps(workspace, group string, every, duration time.Duration) {
	w.all.Go(func() {
		for sleep(w.ctx, every) {
			w.queue(workspace, group, 1, duration)
		}
	})
}

// online counts the runners of a group that are ONLINE.
func (w *world) online(group string) (n int) {
	for _, runner := range w.server.State().Runners {
		if runner.Status == "ONLINE" && slices.Contains(runner.Labels, labelOf(group)) {
			n++
		}
	}
	return n
}

// calls returns the calls so far, and how many of them were lists.
func (w *world) calls() (all, lists int) {
	for route, n := range w.server.State().Counters.Calls {
		all += n
		if strings.HasPrefix(route, "GET ") && strings.HasSuffix(route, "/runners") {
			lists += n
		}
	}
	return all, lists
}
