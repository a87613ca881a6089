package past_test

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	clocktesting "k8s.io/utils/clock/testing"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/externalscaler/simulate/past"
	"bitbucket-runner-scaler/externalscaler/simulate/workload"
)

var start = time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC)

// site is an emulator with one runner, on a clock of its own.
type site struct {
	t       *testing.T
	clock   *clocktesting.FakeClock
	control *emulator.Control
	client  *bitbucket.Client
	server  *emulator.Server
	runner  string
}

func newSite(t *testing.T) *site {
	t.Helper()
	fake := clocktesting.NewFakeClock(start)
	server := emulator.New(emulator.Options{Clock: fake, AssignLag: -1, ParseLag: -1, OfflineAfter: 1000 * time.Hour, RateLimit: -1})
	http := httptest.NewServer(server)
	t.Cleanup(func() { http.Close(); server.Close() })
	client, err := bitbucket.NewClient(bitbucket.Config{BaseURL: http.URL, Credentials: bitbucket.Credentials{AccessToken: emulator.AccessToken}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	s := &site{t: t, clock: fake, control: emulator.NewControl(http.URL), client: client, server: server}
	runner, err := client.CreateRunner(t.Context(), bitbucket.Scope{Workspace: "acme"}, bitbucket.NewRunner{Name: "one", Labels: []string{"self.hosted", "linux", "builds"}})
	if err != nil {
		t.Fatal(err)
	}
	s.runner = runner.UUID
	s.must(s.control.SetRunner(t.Context(), s.runner, emulator.ActionOnline, ""))
	return s
}

func (s *site) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// push starts a pipeline.
func (s *site) push(repository, file string) {
	s.t.Helper()
	_, err := s.control.Push(s.t.Context(), emulator.PushRequest{Workspace: "acme", Repository: repository, Branch: "main", File: file})
	s.must(err)
}

// ends ends the runner's step after a time.
func (s *site) ends(after time.Duration) {
	s.t.Helper()
	s.clock.Step(after)
	s.must(s.control.SetRunner(s.t.Context(), s.runner, emulator.ActionIdle, ""))
}

// read reads the past from the start on.
func (s *site) read(scope bitbucket.Scope, calls int) past.Past {
	s.t.Helper()
	got, err := past.Read(s.t.Context(), s.client, past.Period{Scope: scope, Since: start, Calls: calls})
	s.must(err)
	return got
}

const builtAndTested = `pipelines:
  default:
    - step: {name: Build, runs-on: [self.hosted, builds], script: [make]}
    - step: {name: Scan, script: [sleep 60]}
    - step: {name: "Test; all", runs-on: [self.hosted, builds], script: [make]}
`

const deployed = `pipelines:
  default:
    - step: {name: Build, runs-on: [self.hosted, builds], script: [make]}
    - step: {name: Deploy, trigger: manual, runs-on: [self.hosted, builds], script: [make]}
`

var builds = []string{"self.hosted", "builds"}

func TestPipelinesOfThePastAreReadWithTheirStepsTimesAndLabels(t *testing.T) {
	s := newSite(t)
	s.push("app", builtAndTested)
	s.ends(2 * time.Minute)
	s.clock.Step(time.Minute) // the scan on Bitbucket's own runners
	s.must(s.control.Plan(t.Context(), emulator.StepPlan{}))
	s.ends(3 * time.Minute)
	s.clock.Step(time.Hour)
	second := s.clock.Now()
	s.push("web", deployed)
	s.ends(time.Minute)
	s.clock.Step(10 * time.Minute)
	for _, step := range s.server.State().Steps {
		if step.Name == "Deploy" {
			s.must(s.control.StartStep(t.Context(), step.UUID))
		}
	}
	s.ends(30 * time.Second)

	want := []workload.Pipeline{
		{At: start, Repository: "app", Kind: "default", Steps: []workload.Step{
			{Name: "Build", Labels: builds, Duration: 2 * time.Minute},
			{Name: "Scan", Duration: time.Minute, After: []int{0}},
			{Name: "Test, all", Labels: builds, Duration: 3 * time.Minute, After: []int{1}},
		}},
		{At: second, Repository: "web", Kind: "default", Steps: []workload.Step{{Name: "Build", Labels: builds, Duration: time.Minute}}},
		// A person started it later: that it came late is no wait for a runner.
		{At: second.Add(11 * time.Minute), Repository: "web", Kind: "default", Steps: []workload.Step{{Name: "Deploy", Labels: builds, Duration: 30 * time.Second}}},
	}
	got := s.read(bitbucket.Scope{Workspace: "acme"}, 100)
	if diff := cmp.Diff(want, got.Workload.Pipelines); diff != "" || len(got.Notes) > 0 {
		t.Errorf("notes %q, pipelines (-want +got):\n%s", got.Notes, diff)
	}
	// The workspace's repositories, two lists, and of each pipeline its file and its steps; nothing to
	// resolve a UUID for, but for the slug.
	if got.Calls > 7 {
		t.Errorf("%d calls for two pipelines, want 7 at most", got.Calls)
	}
	one := s.read(bitbucket.Scope{Workspace: "acme", Repository: "web"}, 100)
	if diff := cmp.Diff(want[1:], one.Workload.Pipelines); diff != "" {
		t.Errorf("of one repository (-want +got):\n%s", diff)
	}
}

func TestThePastIsReadPageByPageAndNoMoreThanTheCallsAllow(t *testing.T) {
	s := newSite(t)
	for i := range 130 {
		s.push("app", fmt.Sprintf("# %d\n%s", i, strings.Split(deployed, "    - step: {name: Deploy")[0]))
		s.ends(30 * time.Second)
	}
	repository := bitbucket.Scope{Workspace: "acme", Repository: "app"}
	all := s.read(repository, 1000)
	if n := len(all.Workload.Pipelines); n != 130 || len(all.Notes) > 0 {
		t.Errorf("%d pipelines, notes %q, want all 130", n, all.Notes)
	}
	some := s.read(repository, 42) // two lists, and 20 pipelines of a file and steps
	if diff := cmp.Diff(all.Workload.Pipelines[110:], some.Workload.Pipelines); diff != "" {
		t.Errorf("with 42 calls (-want +got):\n%s", diff)
	}
	if some.Calls != 42 || len(some.Notes) != 1 || !strings.Contains(some.Notes[0], "20 of at least 130 pipelines") {
		t.Errorf("%d calls, notes %q, want 42 and one note about what is missing", some.Calls, some.Notes)
	}
}

func TestWhatCannotBeReadIsLeftOutWithTheReason(t *testing.T) {
	s := newSite(t)
	s.push("app", builtAndTested) // still runs
	got := s.read(bitbucket.Scope{Workspace: "acme"}, 100)
	if len(got.Workload.Pipelines) != 0 || len(got.Notes) != 1 || !strings.Contains(got.Notes[0], "1 left out: had not ended") {
		t.Errorf("%d pipelines, notes %q, want one note", len(got.Workload.Pipelines), got.Notes)
	}
	if _, err := past.Read(t.Context(), s.client, past.Period{Scope: bitbucket.Scope{Workspace: "nowhere"}, Since: start, Calls: 10}); err == nil || !strings.Contains(err.Error(), "read the past of nowhere") {
		t.Errorf("got %v, want an error that says what was read", err)
	}
}
