package controlplane_test

import (
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/test/bufconn"

	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/status/api"
	"bitbucket-runner-scaler/externalscaler/testbed"
)

// waitsFor is the life of a pod that does not start, for this reason.
func waitsFor(cause fleet.Cause) life {
	return func(p *virtualPod) {
		p.w.cluster.Wait(p.job.UID, cause)
		<-p.ctx.Done()
	}
}

const locked = `pipelines:
  default:
    - step: {name: Deploy, deployment: production, runs-on: [self.hosted, linux, fleet], script: [sleep 600]}
`

const misspelt = `pipelines:
  default:
    - step: {name: Build, runs-on: [self.hosted, linux, flet], script: [sleep 30]}
`

// waitingSteps are the steps that are shown and do not run.
func (w *world) waitingSteps() []api.Step {
	return slices.DeleteFunc(slices.Clone(w.current().plane.Viewer().Take().Steps), func(s api.Step) bool { return s.State == api.StepRunning })
}

// TestAWaitingStepIsExplained induces what keeps steps from running, one at a time, and looks for
// the reason and the words within half a minute.
func TestAWaitingStepIsExplained(t *testing.T) {
	for name, c := range map[string]struct {
		settings map[string]string
		do       func(w *world)
		state    api.StepState
		kind     string
		words    []string
		event    string
	}{
		"label typo": {
			event: "StepNotServed",
			do:    func(w *world) { w.push("w0", misspelt) },
			state: api.StepUnserved, kind: "LabelMissing", words: []string{"no runner group has the labels self.hosted, linux, flet", "ns/fleet comes closest and lacks flet (it has fleet)"},
		},
		"at max": {
			event:    "AtMax",
			settings: map[string]string{"max": "1"},
			do:       func(w *world) { w.queue("w0", "fleet", 3, 10*time.Minute) },
			state:    api.StepWaiting, kind: "AtMax", words: []string{"ns/fleet is at its max of 1", "1 busy, 2 queued"},
		},
		"image": {
			event: "JobWaiting",
			do: func(w *world) {
				w.live("fleet", waitsFor(fleet.Cause{Reason: "ImagePullBackOff", Message: "container runner: not found", CannotStart: true}))
				w.queue("w0", "fleet", 2, 10*time.Minute)
			},
			state: api.StepWaiting, kind: "ImagePull", words: []string{"1 Job does not come to a runner of ns/fleet", "ImagePullBackOff", "not found"},
		},
		"quota": {
			event: "JobWaiting",
			do: func(w *world) {
				w.live("fleet", waitsFor(fleet.Cause{Reason: "FailedCreate", Message: `pods "x" is forbidden: exceeded quota: builds`}))
				w.queue("w0", "fleet", 2, 10*time.Minute)
			},
			state: api.StepWaiting, kind: "Quota", words: []string{"exceeded quota: builds"},
		},
		"no Job": {
			do:    func(w *world) { w.live("fleet", nil); w.queue("w0", "fleet", 2, 10*time.Minute) },
			state: api.StepWaiting, kind: "JobNotCreated", words: []string{"ns/fleet needs 1 Job more, which KEDA creates at its next poll"},
		},
		"starting": {
			do:    func(w *world) { w.queue("w0", "fleet", 2, 10*time.Minute) },
			state: api.StepWaiting, kind: "Starting", words: []string{"1 runner starts for ns/fleet, the oldest for "},
		},
		"lock": {
			event: "HeldByLock",
			do:    func(w *world) { w.push("w0", locked); w.after(6 * time.Minute); w.push("w0", locked) },
			state: api.StepHeld, kind: "HeldByLock", words: []string{`app build 1 has the deployment "production"`},
		},
		"gate": {
			do:    func(w *world) { w.push("w0", gated); w.after(7 * time.Minute) },
			state: api.StepHeld, kind: "HeldByHand", words: []string{"a person has to start it"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			virtually(t, 1, func(w *world) {
				w.apply("fleet", "w0", byQueue(c.settings), works)
				w.after(5 * time.Minute)
				c.do(w)
				limit := time.Now().Add(time.Minute)
				for {
					steps := w.waitingSteps()
					if slices.ContainsFunc(steps, func(s api.Step) bool { return explains(s, c.state, c.kind, c.words) }) {
						break
					}
					if time.Now().After(limit) {
						w.t.Errorf("want a step in state %s for reason %s with the words %q, there is %+v", c.state, c.kind, c.words, steps)
						return
					}
					sleep(w.ctx, time.Second)
				}
				if c.event != "" {
					w.told(time.Minute, c.event)
				}
			}, fiveSeconds)
		})
	}
}

func explains(s api.Step, state api.StepState, kind string, words []string) bool {
	return s.State == state && len(s.Why) > 0 && s.Why[0].Kind == kind && s.UUID != "" && strings.Contains(s.URL, "/pipelines/results/") &&
		!slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(s.Why[0].Message, word) })
}

// problem waits for a problem, at most for a time.
func (w *world) problem(within time.Duration, kind string, words ...string) {
	w.t.Helper()
	for limit := time.Now().Add(within); ; sleep(w.ctx, time.Second) {
		all := w.current().plane.Viewer().Take().Installation.Problems
		if slices.ContainsFunc(all, func(p api.Problem) bool {
			return p.Kind == kind && !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(p.Message, word) })
		}) {
			return
		}
		if time.Now().After(limit) {
			w.t.Errorf("no problem %s with the words %q, there are %+v", kind, words, all)
			return
		}
	}
}

// told waits for an Event on the group, at most for a time.
func (w *world) told(within time.Duration, reason string, words ...string) {
	w.t.Helper()
	for limit := time.Now().Add(within); ; sleep(w.ctx, time.Second) {
		if slices.ContainsFunc(w.events("fleet", reason), func(e testbed.Event) bool {
			return !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(e.Message, word) })
		}) {
			return
		}
		if time.Now().After(limit) {
			w.t.Errorf("no Event %s with the words %q, there are %v", reason, words, w.cluster.EventsSeen())
			return
		}
	}
}

func TestRefusedCredentialsAreAProblemWithinAList(t *testing.T) {
	virtually(t, 1, func(w *world) {
		w.apply("fleet", "w0", nil, works)
		w.after(5 * time.Minute)
		w.faults(emulator.FaultRule{Path: "/*", Status: http.StatusUnauthorized})
		w.problem(70*time.Second, "ListFailing", "401")
		w.told(30*time.Second, "ListFailing", "401")
		w.problem(6*time.Minute, "GroupFaulty", "401")
	})
}

func TestARefusedRegistrationIsAProblem(t *testing.T) {
	virtually(t, 1, func(w *world) {
		w.faults(emulator.FaultRule{Method: http.MethodPost, Path: "/*/pipelines-config/runners", Status: http.StatusForbidden})
		w.apply("fleet", "w0", nil, works)
		w.problem(time.Minute, "RegistrationRefused", "1 Job does not come to a runner", "403")
		w.told(30*time.Second, "JobWaiting", "RegistrationRefused")
		w.faults()
		w.after(5 * time.Minute)
		if all := w.current().plane.Viewer().Take().Installation.Problems; len(all) != 0 {
			w.t.Errorf("problems after Bitbucket registers again: %+v", all)
		}
	})
}

func TestMissingWebhooksAreAProblemWhilePipelinesRun(t *testing.T) {
	virtually(t, 1, func(w *world) {
		w.apply("fleet", "w0", byQueue(nil), works)
		w.after(5 * time.Minute)
		w.queue("w0", "fleet", 1, 10*time.Minute)
		w.problem(45*time.Second, "WebhooksMissing", "no webhook of app has arrived", "looking every")
		w.told(30*time.Second, "WebhooksMissing", "no webhook of app has arrived")
	}, fiveSeconds, func(w *world) { w.config.Webhooks = idleListener{bufconn.Listen(1)} })
}

// idleListener is a listener for webhooks to which nothing comes.
type idleListener struct{ *bufconn.Listener }

func (idleListener) Addr() net.Addr { return &net.TCPAddr{} }

func TestAnUnreadableRepositoryIsToldThoughNoStepOfItIsKnown(t *testing.T) {
	virtually(t, 1, func(w *world) {
		w.faults(emulator.FaultRule{Path: "*/pipelines", Status: http.StatusForbidden})
		w.apply("fleet", "w0", byQueue(nil), works)
		w.problem(5*time.Minute, "RepositoryUnreadable", "cannot be read", "403")
		w.told(time.Minute, "RepositoryUnreadable", "cannot be read", "403")
	}, fiveSeconds)
}

func TestAFaultyGroupIsNamedToWhomNoGroupServes(t *testing.T) {
	virtually(t, 1, func(w *world) {
		w.apply("fleet", "w0", byQueue(nil), works)
		w.apply("broken", "w0", byQueue(map[string]string{"labels": "flet", "max": "many"}), works)
		w.after(5 * time.Minute)
		w.push("w0", misspelt)
		for limit := time.Now().Add(time.Minute); ; sleep(w.ctx, time.Second) {
			if slices.ContainsFunc(w.waitingSteps(), func(s api.Step) bool {
				return s.State == api.StepUnserved && slices.ContainsFunc(s.Why, func(r api.Reason) bool { return r.Kind == "GroupFaulty" && strings.Contains(r.Message, "ns/broken") })
			}) {
				return
			}
			if time.Now().After(limit) {
				w.t.Errorf("no step that names the faulty group, there are %+v", w.waitingSteps())
				return
			}
		}
	}, fiveSeconds)
}
