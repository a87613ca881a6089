package handbook

import (
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/e2e/installation"
)

func (j *journey) buildImage(t *testing.T) {
	j.types(t, filled(t, j.block(t, "docs/install.md", "The image", 0), "registry.example.com", j.registry))
}

// bitbucketFlags make the scaler call the emulator.
var bitbucketFlags = []string{
	"--bitbucket-url=http://bitbucket-emulator.bitbucket-emulator.svc.cluster.local:7990",
	"--bitbucket-oauth-url=http://bitbucket-emulator.bitbucket-emulator.svc.cluster.local:7990/site/oauth2/access_token",
	"--poll-interval=10s", "--hourly-budget=6000", "--max-staleness=2m", "--write-settle=5s", "--orphan-grace=10s",
}

// standIn is added to a group of a configuration: the stand-in runner, without a
// Docker daemon.
func (j *journey) standIn() string {
	return standIn + "    images: {runner: '" + installation.EmulatorImage + "', sidecar: '" + j.image + ":v1'}\n"
}

// standIn is a stand-in runner without its image.
const standIn = "\n    docker: false\n    entrypoint: [/bitbucket-emulator, runner]\n    grace_period: 2m\n    polling_interval: 1s\n"

func (j *journey) install(t *testing.T) {
	j.edit(t, "deploy/base/deployment.yaml", func(text string) string {
		first := "            - --grpc-listen=:9090\n"
		return strings.Replace(text, first, first+"            - "+strings.Join(bitbucketFlags, "\n            - ")+"\n", 1)
	})
	example, err := installation.Example(installation.Edit{Name: "builds", Metadata: map[string]string{"coolDown": "10s"}, Images: installation.Images{Scaler: "bitbucket-runner-scaler"}})
	if err != nil {
		t.Fatal(err)
	}
	write(t, j.dir, "deploy/examples/scaledjob.yaml", example)

	j.types(t, filled(t, j.block(t, "docs/install.md", "An overlay of your own", 0), "registry.example.com", j.registry))
	j.types(t, j.block(t, "docs/install.md", "A runner group", 0))
	j.types(t, filled(t, j.block(t, "docs/install.md", "Apply", 0), "ClientId=…", "ClientId=emulator-client", "ClientSecret=…", "ClientSecret=emulator-secret"))
	j.types(t, rollout)
	j.untilOnline(t, "builds")
	if status := j.types(t, j.block(t, "docs/install.md", "Look", 0)); !strings.Contains(status, `"builds"`) {
		t.Errorf("the group is not in\n%s", status)
	}
	var pipeline []struct {
		Step struct {
			RunsOn []string `json:"runs-on"`
		} `json:"step"`
	}
	if err := yaml.UnmarshalStrict([]byte(regexp.MustCompile(`(?m)^ *script: .*\n`).ReplaceAllString(j.block(t, "docs/install.md", "Look", 1), "")), &pipeline); err != nil {
		t.Fatal(err)
	}
	j.runs(t, pipeline[0].Step.RunsOn...)
}

func (j *journey) operate(t *testing.T) {
	for _, said := range []struct{ page, title, want string }{
		{"docs/troubleshoot.md", "Troubleshooting", "bitbucket-runner/builds"},
		{"docs/operate.md", "Calling GetMetrics yourself", `"metricValue"`},
		{"docs/operate.md", "Maintenance of nodes", "evicted"},
		{"docs/operate.md", "Stopping a group for a while", "annotated"},
	} {
		if printed := j.types(t, j.block(t, said.page, said.title, 0)); !strings.Contains(printed, said.want) {
			t.Errorf("%s, %s: %q is not in\n%s", said.page, said.title, said.want, printed)
		}
	}
	j.types(t, "kubectl rollout restart -n bitbucket-runner-scaler deployment/bitbucket-runner-scaler")
	j.types(t, "kubectl -n keda rollout restart deployment/keda-operator")
	j.types(t, rollout)
	j.untilOnline(t, "builds")
	j.upgraded(t, "builds", func() {
		j.types(t, filled(t, j.block(t, "docs/operate.md", "Upgrading", 0), "registry.example.com", j.registry))
	})
}

const rollout = "kubectl -n bitbucket-runner-scaler rollout status deployment/bitbucket-runner-scaler --timeout=120s"

// upgraded does it while a runner has a step, which is to pass, and wants another
// runner then to have the new sidecar.
func (j *journey) upgraded(t *testing.T, label string, upgrade func()) {
	t.Helper()
	step := j.queue(t, "20s", "self.hosted", label)
	j.until(t, "the step to be given out", func() (bool, error) { return j.outcome(t, step) == emulator.OutcomeRunning, nil })
	upgrade()
	j.passes(t, step)
	j.until(t, "runners with the new sidecar alone", func() (bool, error) {
		images, err := j.kube.Run(t.Context(), "", "-n", installation.Runners, "get", "pods", "--field-selector=status.phase=Running", "-o", `jsonpath={range .items[*]}{.spec.initContainers[0].image}{"\n"}{end}`)
		return strings.Contains(images, j.image+":v2\n") && !strings.Contains(images, ":v1"), err
	})
	j.untilOnline(t, label)
	j.runs(t, "self.hosted", label)
}

func (j *journey) takeAway(t *testing.T) {
	j.types(t, j.block(t, "deploy/README.md", "Uninstalling", 0))
	j.nobody(t)
	j.types(t, filled(t, j.block(t, "deploy/README.md", "Uninstalling", 1), "deploy/overlays/oauth-consumer", "overlay"))
	j.nothing(t)
}
