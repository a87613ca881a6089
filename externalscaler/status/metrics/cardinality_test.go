package metrics_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/policy"
	"bitbucket-runner-scaler/externalscaler/runnergroup"
	"bitbucket-runner-scaler/externalscaler/scope"
)

// mostSeries bounds the series of one replica with 100 groups and 1,000 runners.
const mostSeries = 10_000

// large is a world with 100 groups that scale by the queue, each with 10 runners, of which some do
// not start, in as many scopes as Bitbucket's limit needs.
func large() *world {
	w := &world{views: scope.Views{}}
	for i := range 100 {
		id := scope.ID{Credentials: fmt.Sprint("set-", i%5), Scope: bitbucket.Scope{Workspace: fmt.Sprint("workspace-", i%20)}}
		w.views[id] = &scope.View{ID: id, Runners: make([]bitbucket.Runner, 50), ListBegun: now, Interval: time.Minute}
		g := &fleet.GroupSnapshot{
			GroupKey: key(fmt.Sprint("group-", i)), Scope: id, Spec: runnergroup.Group{Rules: policy.Rules{Strategy: policy.QueuedSteps, Max: 10}},
		}
		for j := range 10 {
			m := fleet.Member{State: fleet.State(j), Job: &fleet.Job{}}
			if j < 2 {
				m.Job.Waits.Reason = []string{"ImagePullBackOff", "Unschedulable"}[j]
			}
			g.Members = append(g.Members, m)
		}
		w.known = append(w.known, g)
	}
	return w
}

func TestAHundredGroupsAndAThousandRunnersFitTenThousandSeries(t *testing.T) {
	m, registry := show(t, large())
	for set := range 5 {
		for _, route := range []string{"POST …/runners", "GET …/runners", "GET …/runners/{uuid}", "PUT …/state", "DELETE …/runners/{uuid}", "GET …/pipelines", "GET …/steps", "GET …/src"} {
			for _, code := range []int{0, 200, 404, 429, 503} {
				method, path, _ := strings.Cut(route, " ")
				m.Call(fmt.Sprint("set-", set), method, path, code, time.Second)
			}
		}
	}
	var text bytes.Buffer
	encoder := expfmt.NewEncoder(&text, expfmt.NewFormat(expfmt.TypeTextPlain))
	for _, family := range gather(t, registry) {
		if err := encoder.Encode(family); err != nil {
			t.Fatal(err)
		}
	}
	count := 0
	for line := range strings.Lines(text.String()) {
		if !strings.HasPrefix(line, "#") {
			count++
		}
	}
	t.Logf("%d series", count)
	if count > mostSeries || count < 100*50 {
		t.Errorf("%d series, want at most %d, and at least 50 per group", count, mostSeries)
	}
}
