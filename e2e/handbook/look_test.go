package handbook

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/e2e/installation"
)

// firstLook plays what CI does not: `.ci/run` has the other commands.
func (j *journey) firstLook(t *testing.T) {
	ci, err := os.ReadFile(filepath.Join(j.dir, ".ci", "run"))
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range append(lines(j.block(t, "README.md", "Try it", 0)), lines(j.block(t, "README.md", "Try it", 2))...) {
		switch command {
		case "make demo":
			j.demo(t, j.types(t, command))
		case "make demo-cluster": // a second local cluster beside the test's cannot be
			j.types(t, command+" KUBECONFIG="+j.kube.Kubeconfig+" IMAGE="+installation.ScalerImage+" EMULATOR_IMAGE="+installation.EmulatorImage)
		default:
			if !strings.Contains(string(ci), " "+command) {
				t.Errorf("nothing runs %s", command)
			}
		}
	}
	if figure := j.block(t, "README.md", "How it works", 0); !strings.Contains(figure, "──▶") {
		t.Errorf("it is no figure any more, but\n%s", figure)
	}
}

// demo compares what the demo prints with the chapters of the README's screen.
func (j *journey) demo(t *testing.T, printed string) {
	chapters, _, _ := strings.Cut(j.block(t, "README.md", "Try it", 1), "\n\n")
	for _, line := range lines(chapters)[1:] {
		title := strings.TrimSpace(line)
		for _, state := range []string{"done ", "now "} {
			title = strings.TrimPrefix(title, state)
		}
		title, _, _ = strings.Cut(title, "  ")
		if !strings.Contains(printed, "done: "+title+" (") {
			t.Errorf("no chapter %q in\n%s", title, printed)
		}
	}
}

func (j *journey) tryEmulator(t *testing.T) {
	commands := lines(j.block(t, "docs/emulator.md", "The Bitbucket emulator", 0))
	if len(commands) != 3 {
		t.Fatalf("commands %q", commands)
	}
	j.types(t, commands[0])
	j.types(t, commands[1]+" &"+ready("7990"))
	script := j.block(t, "docs/emulator.md", "The Bitbucket emulator", 1)
	register, rest, found := strings.Cut(script, "curl --globoff")
	if !found {
		t.Fatalf("no registration comes first in\n%s", script)
	}
	var runner, account struct {
		UUID  string `json:"uuid"`
		OAuth struct {
			ID       string `json:"id"`
			Secret   string `json:"secret"`
			Endpoint string `json:"token_endpoint"`
		} `json:"oauth_client"`
	}
	answered(t, j.types(t, register), &runner)
	if shown := j.types(t, filled(t, "curl --globoff"+rest, "{…}", runner.UUID)); !strings.Contains(shown, `"ONLINE"`) || strings.Contains(shown, `"outcome":"`+emulator.OutcomeFailed) {
		t.Errorf("no runner is online, or a step has failed:\n%s", shown)
	}
	if shown := j.types(t, j.block(t, "docs/emulator.md", "Pipelines", 0)); !strings.Contains(shown, `"pipeline_step"`) || strings.Contains(shown, `"type":"error"`) {
		t.Errorf("the pipelines are not as described:\n%s", shown)
	}
	if shown := j.types(t, j.block(t, "docs/emulator.md", "How steps go", 0)); !strings.Contains(shown, `"pipelines":[`) || strings.Contains(shown, `"type":"error"`) {
		t.Errorf("the plan is not as described:\n%s", shown)
	}
	if shown := j.types(t, j.block(t, "docs/emulator.md", "Webhooks", 0)); !strings.Contains(shown, `"deliveries":[]`) {
		t.Errorf("the webhook is not registered:\n%s", shown)
	}
	answered(t, j.types(t, register), &runner)
	answered(t, j.types(t, "curl -s -u dev@example.com:emulator-token http://127.0.0.1:7990/2.0/workspaces/acme"), &account)
	j.types(t, fmt.Sprintf("ACCOUNT_UUID=%s RUNNER_UUID=%s OAUTH_CLIENT_ID=%s OAUTH_CLIENT_SECRET=%s OAUTH_TOKEN_ENDPOINT=%s WORKING_DIRECTORY=%s %s &",
		account.UUID, runner.UUID, runner.OAuth.ID, runner.OAuth.Secret, runner.OAuth.Endpoint, t.TempDir(), commands[2]))
	control := emulator.NewControl("http://127.0.0.1:7990")
	j.until(t, "the stand-in runner to be online", func() (bool, error) {
		state, err := control.State(t.Context())
		for _, r := range state.Runners {
			if r.UUID == runner.UUID && r.Connected {
				return true, err
			}
		}
		return false, err
	})
}

// answered reads the JSON object in what curl printed.
func answered(t *testing.T, printed string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(printed[strings.Index(printed, "{"):strings.LastIndex(printed, "}")+1]), into); err != nil {
		t.Fatalf("%v: %s", err, printed)
	}
}

func (j *journey) configure(t *testing.T) {
	write(t, j.dir, "runners_config.yaml", j.block(t, "docs/configure.md", "Configuring runner groups", 0))
	printed := j.types(t, j.block(t, "docs/configure.md", "Configuring runner groups", 1))
	if count := strings.Count(printed, "kind: ScaledJob"); count != 2 {
		t.Errorf("%d ScaledJobs, want one to stdout and one from the folder:\n%s", count, printed)
	}
	write(t, j.dir, "queue.yaml", j.block(t, "docs/configure.md", "By the steps that wait", 0))
	if printed := j.types(t, "runnerctl lint queue.yaml && runnerctl render -f queue.yaml"); !strings.Contains(printed, "lookAhead: 30s") {
		t.Errorf("no look-ahead:\n%s", printed)
	}
	write(t, j.dir, "day.yaml", j.block(t, "docs/configure.md", "The working day", 0))
	if printed := j.types(t, "runnerctl lint day.yaml && runnerctl render -f day.yaml"); !strings.Contains(printed, `"timezone":"Europe/Berlin"`) || !strings.Contains(printed, "maxReplicaCount: 20") {
		t.Errorf("no schedule:\n%s", printed)
	}
	j.types(t, "runnerctl lint --rules && runnerctl schema")
	j.pipelines(t)
	j.simulate(t)
}

// simulate compares what is printed with the documentation.
func (j *journey) simulate(t *testing.T) {
	for _, title := range []string{"A first look", "Which settings"} {
		printed := j.types(t, j.block(t, "docs/simulate.md", title, 0))
		if want := j.block(t, "docs/simulate.md", title, 1); printed != want {
			t.Errorf("printed\n%s\nwant\n%s", printed, want)
		}
	}
	write(t, j.dir, "steps.csv", j.block(t, "docs/simulate.md", "Your own pipelines", 0))
	if printed := j.types(t, j.block(t, "docs/simulate.md", "Your own pipelines", 1)); !strings.Contains(printed, "3 pipelines, 6 steps") {
		t.Errorf("printed\n%s", printed)
	}
}

// pipelines compares what is printed with the documentation.
func (j *journey) pipelines(t *testing.T) {
	const title = "What a pipelines file asks for"
	write(t, j.dir, "bitbucket-pipelines.yml", j.block(t, "docs/configure.md", title, 0))
	command := strings.TrimSpace(j.block(t, "docs/configure.md", title, 1))
	printed := j.types(t, command+" || [ $? = 1 ]")
	if want := j.block(t, "docs/configure.md", title, 2); !strings.Contains(printed, want) {
		t.Errorf("printed\n%s\nwant\n%s", printed, want)
	}
}

func (j *journey) check(t *testing.T) {
	commands := lines(j.block(t, "docs/cli.md", "Checks", 0))
	if len(commands) != 3 {
		t.Fatalf("commands %q", commands)
	}
	sets := t.TempDir()
	write(t, sets, "default/bitbucketOauthClientId", "emulator-client")
	write(t, sets, "default/bitbucketOauthClientSecret", "emulator-secret")
	write(t, sets, "default/namespaces", "bitbucket-runner")
	at := "export RUNNERCTL_BITBUCKET_URL=" + j.url + " RUNNERCTL_BITBUCKET_OAUTH_URL=" + j.url + "/site/oauth2/access_token RUNNERCTL_CREDENTIALS_DIR=" + sets + "\n"
	j.types(t, "make build && bin/runnerctl version")
	j.types(t, at+filled(t, commands[0], "DIR", sets))
	j.types(t, at+commands[1])
	j.types(t, at+filled(t, commands[2], "REF", installation.EmulatorImage))
}
