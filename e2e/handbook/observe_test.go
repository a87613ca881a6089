package handbook

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"bitbucket-runner-scaler/bitbucket/emulator"
)

const twoSteps = `pipelines:
  default:
    - parallel:
        - step: &work {name: Work, runs-on: [self.hosted, linux, builds], script: [sleep 60]}
        - step: *work
`

// observe looks at the installation as the documentation says, and drains the node's runners.
func (j *journey) observe(t *testing.T) {
	const page = "docs/observe.md"
	says := func(title string, index int, want []string, pairs ...string) {
		t.Helper()
		printed := j.types(t, filled(t, j.block(t, page, title, index), pairs...))
		for _, word := range want {
			if !strings.Contains(printed, word) {
				t.Errorf("%s: %q is not in\n%s", title, word, printed)
			}
		}
	}
	says("Who may look", 0, []string{"look-at-runners created"})
	j.types(t, "kubectl auth can-i get services/http:bitbucket-runner-scaler:http --subresource=proxy -n bitbucket-runner-scaler --as=dev --as-group=developers")
	says("The page", 0, []string{"<title>Runners for Bitbucket Pipelines</title>"})
	says("The command line", 0, []string{"bitbucket-runner/builds", "calls left in this hour", "wanted (", " sidecar: "})
	says("The API", 0, []string{`"items": [`})

	j.types(t, `kubectl patch scaledjob builds -n bitbucket-runner --type=json -p '[{"op":"add","path":"/spec/triggers/0/metadata/strategy","value":"queuedSteps"},{"op":"add","path":"/spec/triggers/0/metadata/repositories","value":"app"}]'`)
	j.untilOnline(t, "builds")
	pushed, err := j.control.Push(t.Context(), emulator.PushRequest{Workspace: "acme", Repository: "app", Branch: "main", File: twoSteps})
	if err != nil {
		t.Fatal(err)
	}
	j.until(t, "the pipeline to be explained", func() (bool, error) {
		state, err := j.control.State(t.Context())
		if err != nil {
			return false, err
		}
		i := slices.IndexFunc(state.Steps, func(s emulator.StepInfo) bool { return s.PipelineUUID == pushed.Pipeline })
		if i < 0 {
			return false, nil
		}
		build := state.Steps[i].Build
		explained := j.types(t, "("+strings.TrimSpace(strings.Replace(j.block(t, page, "The command line", 1), "results/1", fmt.Sprintf("results/%d", build), 1))+" 2>&1) || true")
		return strings.Contains(explained, fmt.Sprintf(`"Work" of app build %d`, build)), nil
	})
	// The cluster has one node, so it must not be cordoned: successors would have no place.
	says("The command line", 2, []string{"is draining", "has ended"}, "kubectl cordon worker-3", "true", "kubectl uncordon worker-3", "true", "worker-3", j.node)
	j.untilOnline(t, "builds")
}
