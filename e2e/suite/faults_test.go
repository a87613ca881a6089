package suite

import (
	"bytes"
	"context"
	"fmt"
	"html"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/cmd/runnerctl/cluster"
	"bitbucket-runner-scaler/e2e/installation"
)

type plain struct{}

func (plain) Bad(text string) string  { return text }
func (plain) Warn(text string) string { return text }

// runnerctl runs one of its commands about a cluster, through the API server's proxy.
func runnerctl(ctx context.Context, args ...string) string {
	var out bytes.Buffer
	for _, c := range cluster.Commands(cluster.Settings{
		Lookup: func(string) (string, bool) { return "", false }, Paint: func(io.Writer) cluster.Painter { return plain{} },
		UntilInterrupted: func(ctx context.Context, run func(context.Context) error) error { return run(ctx) },
	}) {
		if c.Name() != args[0] {
			continue
		}
		root := &cobra.Command{Use: "runnerctl", SilenceUsage: true}
		root.AddCommand(c)
		root.SetOut(&out)
		root.SetErr(&out)
		root.SetArgs(append(args, "--kubeconfig", shared.Kube.Kubeconfig))
		if err := root.ExecuteContext(ctx); err != nil {
			_, _ = fmt.Fprintln(&out, err)
		}
	}
	return out.String()
}

// page is the text of the leader's page.
func page(t *testing.T) string {
	t.Helper()
	_, leader := replicas(t)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("http://%s:8080/", leader.Status.PodIP), http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	return html.UnescapeString(string(body))
}

// fault is something that keeps steps from running.
type fault struct {
	name     string
	settings map[string]string // of its group, beside the repository
	induce   func(t *testing.T, group string)
	// page, explain and event are words of the page, of runnerctl's explanation of the pipeline or,
	// with ofGroup, of the group, and the reason of the Event on the ScaledJob.
	page, explain, event string
	ofGroup              bool
}

func step(label, script string) string {
	return "pipelines: {default: [step: {name: Work, runs-on: [self.hosted, linux, " + label + "], script: [" + script + "]}]}\n"
}

func push(t *testing.T, repository, file string) (build int) {
	t.Helper()
	pushed, err := shared.Control.Push(t.Context(), emulator.PushRequest{Workspace: "acme", Repository: repository, Branch: "main", File: file})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range state(t).Steps {
		if s.PipelineUUID == pushed.Pipeline {
			build = s.Build
		}
	}
	return build
}

const faultyRepository = "tools"

func faults() []fault {
	patch := func(t *testing.T, group, patch string) {
		t.Helper()
		if _, err := shared.Kube.Run(t.Context(), "", "-n", installation.Runners, "patch", "scaledjob", group, "--type=json", "-p", patch); err != nil {
			t.Fatal(err)
		}
	}
	return []fault{
		{
			name: "label typo", page: "LabelMissing", explain: "comes closest and lacks lable.typos (it has label.typo)", event: "StepNotServed",
			induce: func(t *testing.T, _ string) { push(t, faultyRepository, step("lable.typos", "sleep 30")) },
		},
		{
			name: "expired token", page: "ListFailing", explain: "ListFailing", event: "ListFailing", ofGroup: true,
			induce: func(t *testing.T, _ string) {
				if err := shared.Control.SetFaults(t.Context(), []emulator.FaultRule{{Path: "/2.0/*", Status: 401}, {Path: "/internal/*", Status: 401}}); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = shared.Control.SetFaults(context.WithoutCancel(t.Context()), nil) })
			},
		},
		{
			name: "at max", settings: map[string]string{"max": "1"}, page: "AtMax", explain: "is at its max of 1", event: "AtMax",
			induce: func(t *testing.T, _ string) {
				push(t, faultyRepository, step("at.max", "sleep 100"))
				push(t, faultyRepository, step("at.max", "sleep 1"))
			},
		},
		{
			name: "webhook missing", page: "WebhooksMissing", explain: "runs", event: "WebhooksMissing",
			induce: func(t *testing.T, _ string) { push(t, faultyRepository, step("webhook.missing", "sleep 150")) },
		},
		{
			name: "image", page: "ImagePull", explain: "ImagePull", event: "JobWaiting",
			induce: func(t *testing.T, group string) {
				patch(t, group, `[{"op":"replace","path":"/spec/jobTargetRef/template/spec/containers/0/image","value":"localhost:1/nothing:none"},{"op":"replace","path":"/spec/jobTargetRef/template/spec/containers/0/imagePullPolicy","value":"Always"}]`)
				push(t, faultyRepository, step("image", "sleep 100"))
				push(t, faultyRepository, step("image", "sleep 1"))
			},
		},
		{
			name: "quota", page: "Quota", explain: "exceeded quota", event: "JobWaiting",
			induce: func(t *testing.T, _ string) {
				if _, err := shared.Kube.Run(t.Context(), "", "-n", installation.Runners, "create", "quota", "full", "--hard=pods=1"); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() {
					if _, err := shared.Kube.Run(context.WithoutCancel(t.Context()), "", "-n", installation.Runners, "delete", "quota", "full"); err != nil {
						t.Error(err)
					}
				})
				push(t, faultyRepository, step("quota", "sleep 100"))
				push(t, faultyRepository, step("quota", "sleep 1"))
			},
		},
		{
			name: "lock", page: `has the deployment "production"`, explain: `has the deployment "production"`, event: "HeldByLock",
			induce: func(t *testing.T, _ string) {
				locked := "pipelines: {default: [step: {name: Deploy, deployment: production, runs-on: [self.hosted, linux, lock], script: [sleep 100]}]}\n"
				push(t, faultyRepository, locked)
				push(t, faultyRepository, locked)
			},
		},
	}
}

// TestLongSevenFaultsAreFoundInAMinute induces what keeps steps from running, and looks for it as
// the documentation says: on the page, with runnerctl, and in the Events.
func TestLongSevenFaultsAreFoundInAMinute(t *testing.T) {
	for _, f := range faults() {
		t.Run(f.name, func(t *testing.T) {
			label := strings.ReplaceAll(f.name, " ", ".")
			name := strings.ReplaceAll(label, ".", "-")
			if f.name != "webhook missing" {
				hook(t, faultyRepository)
			}
			group(t, name, withLabel(byQueue(faultyRepository, f.settings), label))
			untilOnline(t, label, 1, 0)
			t.Cleanup(func() { stopAll(t, faultyRepository) })
			begun := time.Now()
			f.induce(t, name)
			found := map[string]time.Duration{}
			explanation := ""
			until(t, "it to be found in all three ways", func() (bool, error) {
				note := func(way string, seen bool) {
					if _, known := found[way]; seen && !known {
						found[way] = time.Since(begun).Round(100 * time.Millisecond)
					}
				}
				note("page", strings.Contains(page(t), f.page))
				what := []string{"explain", installation.Runners + "/" + name}
				if !f.ofGroup {
					what = []string{"explain", "step", fmt.Sprintf("https://bitbucket.org/acme/%s/pipelines/results/%d", faultyRepository, newest(t))}
				}
				explained := runnerctl(t.Context(), what...)
				if strings.Contains(explained, f.explain) {
					explanation = "runnerctl " + strings.Join(what, " ") + "\n" + explained
				}
				note("explain", strings.Contains(explained, f.explain))
				events, err := shared.Kube.Run(t.Context(), "", "-n", installation.Runners, "get", "events", "--field-selector", "involvedObject.kind=ScaledJob,involvedObject.name="+name+",reason="+f.event, "-o", "jsonpath={.items[*].message}")
				note("Events", events != "")
				return len(found) == 3, err
			})
			t.Logf("%s: after %v", f.name, found)
			t.Logf("%s", explanation)
			for way, took := range found {
				if took > time.Minute {
					t.Errorf("found by %s after %s, want a minute at most", way, took)
				}
			}
		})
	}
}

func withLabel(settings map[string]string, label string) map[string]string {
	settings["labels"] = label
	return settings
}

// newest is the number of the newest build of the repository.
func newest(t *testing.T) (build int) {
	t.Helper()
	for _, s := range state(t).Steps {
		if s.Repository == faultyRepository {
			build = max(build, s.Build)
		}
	}
	return build
}

// stopAll stops the pipelines of a repository.
func stopAll(t *testing.T, repository string) {
	t.Helper()
	stopped := map[string]bool{}
	for _, s := range state(t).Steps {
		if s.Repository == repository && s.CompletedOn.IsZero() && !stopped[s.PipelineUUID] {
			stopped[s.PipelineUUID] = true
			if err := shared.Control.StopPipeline(context.WithoutCancel(t.Context()), s.PipelineUUID); err != nil {
				t.Error(err)
			}
		}
	}
}
