package emulator

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"bitbucket-runner-scaler/bitbucket/emulator/pipelines"
)

func TestWhatIsUncertainIsSwitchable(t *testing.T) {
	t.Parallel()
	t.Run("labels of a registration", func(t *testing.T) {
		t.Parallel()
		const body = `{"name":"r","labels":["my.group"]}`
		start(t, Options{}).call(400, "POST", workspaceRunners, body)
		got := decode[runnerBody](t, start(t, Options{AddLabels: true}).call(200, "POST", workspaceRunners, body).body)
		if want := []string{"self.hosted", "linux", "my.group"}; !cmp.Equal(got.Labels, want) {
			t.Errorf("labels %v, want %v", got.Labels, want)
		}
		for _, options := range []Options{{}, {AddLabels: true}} {
			start(t, options).call(400, "POST", workspaceRunners, `{"name":"r","labels":["self.hosted","linux","windows"]}`)
		}
	})
	t.Run("what PUT changes", func(t *testing.T) {
		t.Parallel()
		for rename, want := range map[bool]string{false: "r", true: "new"} {
			b := start(t, Options{RenameOnPut: rename})
			r := b.register(workspaceRunners, "r")
			if got := decode[runnerBody](t, b.call(200, "PUT", runnerPath(r.UUID), `{"name":"new"}`).body).Name; got != want {
				t.Errorf("rename %v: answered %s, want %s", rename, got, want)
			}
			if got := b.get(r.UUID).Name; got != want {
				t.Errorf("rename %v: %s, want %s", rename, got, want)
			}
		}
	})
	t.Run("steps while the runner is offline", func(t *testing.T) {
		t.Parallel()
		for wait, want := range map[bool]string{false: "failed: no runner", true: "queued"} {
			b := start(t, Options{WaitOffline: wait})
			r := b.register(workspaceRunners, "r", "my.group")
			step := b.queue(1, "my.group")[0]
			if got := b.outcome(step); got != want {
				t.Errorf("wait %v: %s, want %s", wait, got, want)
			}
			if !wait {
				continue
			}
			b.set(r.UUID, ActionOnline, "")
			if got := b.outcome(step); got != "running" {
				t.Errorf("once it is online: %s, want running", got)
			}
		}
	})
	t.Run("stages of steps", func(t *testing.T) {
		t.Parallel()
		const sequence = `pipelines: {default: [
			step: {name: a, runs-on: [my.group], script: [x]},
			step: {name: b, runs-on: [my.group], script: [x]}]}`
		for stages, want := range map[pipelines.StepStages][]string{
			"":                      {"PENDING", "PENDING", "PENDING"},
			pipelines.StagesNone:    {"PENDING", "PENDING", "PENDING"},
			pipelines.StagesReached: {"PENDING", "PENDING/PENDING", "PENDING"},
			pipelines.StagesAll:     {"PENDING", "PENDING/PENDING", "PENDING/PENDING"},
		} {
			b := start(t, Options{ParseLag: -1, StepStages: stages})
			b.set(b.online("my.group"), ActionStep, "") // so that the first step waits
			b.push("main", sequence)
			b.wantStates("1", want...)
		}
	})
}

func TestAStepsPlatformIsLinuxUnlessItNamesAnother(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		runner, step []string
		want         string
	}{
		"implied":        {[]string{"self.hosted", "linux", "x"}, []string{"self.hosted", "x"}, "running"},
		"shell, implied": {[]string{"self.hosted", "linux.shell", "x"}, []string{"self.hosted", "x"}, "failed: no runner"},
		"arm, implied":   {[]string{"self.hosted", "linux.arm64", "x"}, []string{"self.hosted", "x"}, "failed: no runner"},
		"shell, named":   {[]string{"self.hosted", "linux.shell", "x"}, []string{"self.hosted", "linux.shell", "x"}, "running"},
		"windows, named": {[]string{"self.hosted", "linux", "x"}, []string{"windows", "x"}, "failed: no runner"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := start(t, Options{})
			body := `{"name":"r","labels":["` + c.runner[0] + `","` + c.runner[1] + `","` + c.runner[2] + `"]}`
			r := decode[runnerBody](t, b.call(200, "POST", workspaceRunners, body).body)
			b.set(r.UUID, ActionOnline, "")
			if got := b.outcome(b.queue(1, c.step...)[0]); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
