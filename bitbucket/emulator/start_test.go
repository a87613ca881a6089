package emulator

import (
	"net/http"
	"strings"
	"testing"

	"bitbucket-runner-scaler/bitbucket/emulator/pipelines"
)

func TestPipelinesAreStartedFromTargets(t *testing.T) {
	t.Parallel()
	b := start(t, Options{ParseLag: -1})
	b.online("my.group")
	head := b.push("main", file).Commit
	b.push("feature/x", "pipelines: {pull-requests: {'feature/*': [step: {name: Pull, script: [x]}]}}")
	for name, c := range map[string]struct {
		body string
		step string
		kind, selector,
		commit string
	}{
		"branch": {onMain, "Build", pipelines.RefTarget, "default", head},
		"commit": {`{"target":{"type":"pipeline_commit_target","commit":{"hash":"` + head + `"},"selector":{"type":"custom","pattern":"nightly"}}}`,
			"Nightly", pipelines.CommitTarget, "custom", head},
		"custom on a branch": {`{"target":{"type":"pipeline_ref_target","ref_type":"branch","ref_name":"main","selector":{"type":"custom","pattern":"nightly"}},"variables":[]}`,
			"Nightly", pipelines.RefTarget, "custom", head},
		"pull request": {`{"target":{"type":"pipeline_pullrequest_target","source":"feature/x","destination":"main","pullrequest":{"id":"2"},"selector":{"type":"pull-requests","pattern":"feature/*"}}}`,
			"Pull", pipelines.PullRequestTarget, "pull-requests", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := b.call(201, "POST", appPipelines+"/", c.body)
			p := decode[pipelines.Body](t, r.body)
			if r.header.Get("Location") != p.Links["self"].Href || p.Trigger.Name != "MANUAL" || p.Target.Type != c.kind || p.Target.Selector.Type != c.selector {
				t.Errorf("started %+v", p)
			}
			if c.commit != "" && p.Target.Commit.Hash != c.commit {
				t.Errorf("commit %s, want %s", p.Target.Commit.Hash, c.commit)
			}
			if got := b.steps(p.UUID)[0].Name; got != c.step {
				t.Errorf("first step %q, want %q", got, c.step)
			}
		})
	}
	for name, body := range map[string]string{
		"no JSON":        `x`,
		"no type":        `{"target":{}}`,
		"no ref":         `{"target":{"type":"pipeline_ref_target"}}`,
		"no commit":      `{"target":{"type":"pipeline_commit_target"}}`,
		"unknown branch": strings.ReplaceAll(onMain, "main", "nope"),
		"no such custom": `{"target":{"type":"pipeline_ref_target","ref_type":"branch","ref_name":"main","selector":{"type":"custom","pattern":"daily"}}}`,
	} {
		t.Run(name, func(t *testing.T) { b.call(400, "POST", appPipelines, body) })
	}
	b.call(400, "POST", "/2.0/repositories/acme/web/pipelines", onMain) // no file
	b.auth = "Bearer " + ReadOnlyToken
	b.call(403, "POST", appPipelines, onMain)
}

func TestPipelinesAreStartedFromYAML(t *testing.T) {
	t.Parallel()
	b := start(t, Options{ParseLag: -1})
	b.online("my.group")
	const body = "pipelines: {default: [step: {name: Once, runs-on: [self.hosted, my.group], script: [x]}]}"
	req, err := http.NewRequestWithContext(t.Context(), "POST",
		b.url+appPipelines+"?target.type=pipeline_ref_target&target.ref_type=branch&target.ref_name=main", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", b.auth)
	req.Header.Set("Content-Type", "application/yaml")
	resp, err := b.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != 201 {
		t.Fatalf("status %d, want 201", resp.StatusCode)
	}
	b.wantStates("1", "IN_PROGRESS/RUNNING", "IN_PROGRESS/RUNNING")
	// The commit of its target does not contain it, so that the labels cannot be looked up.
	b.call(404, "GET", "/2.0/repositories/acme/app/src/"+b.pipeline("1").Target.Commit.Hash+"/bitbucket-pipelines.yml", "")
}

func TestStoppedPipelinesAreStopped(t *testing.T) {
	t.Parallel()
	b := start(t, Options{ParseLag: -1})
	runner := b.online("my.group")
	b.push("main", file)
	b.call(204, "POST", appPipelines+"/1/stopPipeline", "")
	b.wantStates("1", "COMPLETED/STOPPED", "COMPLETED/STOPPED", "COMPLETED/STOPPED", "COMPLETED/STOPPED", "COMPLETED/STOPPED")
	if step := b.get(runner).State.Step; step != nil {
		t.Errorf("the runner still has step %v", step)
	}
	b.call(400, "POST", appPipelines+"/1/stopPipeline", "")
	if got := decode[page[pipelines.Body]](t, b.call(200, "GET", appPipelines+"?status=STOPPED", "").body); got.Size != 1 {
		t.Errorf("%d pipelines are STOPPED, want 1", got.Size)
	}
	b.queue(1, "my.group")
	b.wantStates("2", "IN_PROGRESS/RUNNING", "IN_PROGRESS/RUNNING") // the runner is free
}
