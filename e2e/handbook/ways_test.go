package handbook

import (
	"regexp"
	"runtime"
	"strings"
	"testing"

	"bitbucket-runner-scaler/e2e/installation"
)

// migrate has the configuration of the seed's form, under other labels at first.
func (j *journey) migrate(t *testing.T) {
	config := `
groups:
  - name: "Runner group 1"
    workspace: acme
    labels:
      - "gke.runner"
    namespace: "bitbucket-runner"
    strategy: "percentageRunnersIdle"
    parameters: {min: 1, max: 10, scale_up_threshold: 0.5, scale_down_threshold: 0.2, scale_up_multiplier: 1.5, scale_down_multiplier: 0.5}
    resources:
      requests: {memory: "64Mi", cpu: "10m"}
      limits: {memory: "64Mi", cpu: "100m"}`
	j.other = j.incumbent(t)
	write(t, j.dir, "runners_config.yaml", config+j.standIn())
	j.types(t, j.block(t, "docs/migrate.md", "Without a gap", 0))
	j.secretIsCopied(t)
	j.types(t, j.block(t, "docs/migrate.md", "Without a gap", 1))
	j.untilOnline(t, "gke.runner2")
	j.runs(t, "self.hosted", "gke.runner2")
	// Restore the old label, in addition to the new one.
	j.edit(t, "side-by-side.yaml", func(text string) string {
		return regexp.MustCompile(`- "gke.runner.*"`).ReplaceAllString(text, "- gke.runner\n      - gke.runner2")
	})
	j.types(t, "runnerctl render -f side-by-side.yaml -o side-by-side && kubectl apply -k side-by-side")
	j.untilOnline(t, "gke.runner")
	j.runs(t, "self.hosted", "gke.runner", "gke.runner2")
}

func (j *journey) overlay(t *testing.T) {
	j.edit(t, "deploy/overlays/oauth-consumer/kustomization.yaml", func(text string) string {
		return strings.NewReplacer("ClientId=EDIT", "ClientId=emulator-client", "ClientSecret=EDIT", "ClientSecret=emulator-secret").Replace(text)
	})
	write(t, j.dir, "overlay/kustomization.yaml", filled(t, j.block(t, "deploy/README.md", "Which overlay", 0), "registry.example.com", j.registry))
	j.types(t, j.block(t, "deploy/README.md", "Which overlay", 1))
	j.untilOnline(t, "builds")
	j.runs(t, "self.hosted", "builds")
}

func (j *journey) nodes(t *testing.T) {
	j.types(t, "kubectl delete scaledjobs --all -n bitbucket-runner")
	j.types(t, filled(t, j.block(t, "deploy/README.md", "Nodes", 0), "NODE", j.node))
	defer j.types(t, "kubectl taint node "+j.node+" customer- && kubectl label node "+j.node+" customer-")
	config := regexp.MustCompile(`(?m)^    docker_resources:\n(?:      .*\n)*`).ReplaceAllString(j.block(t, "deploy/README.md", "Nodes", 1), "")
	config = filled(t, config, `cpu: "1"`, `cpu: 10m`, "2Gi", "64Mi", "[builds]", "[tainted]") // a node of the test's is small
	write(t, j.dir, "nodes.yaml", config+j.standIn())
	j.types(t, "runnerctl render -f nodes.yaml | kubectl apply -f -")
	j.untilOnline(t, "tainted")
	j.runs(t, "self.hosted", "tainted")
}

func (j *journey) uninstall(t *testing.T) {
	j.types(t, j.block(t, "deploy/README.md", "Uninstalling", 0))
	j.nobody(t)
	j.types(t, j.block(t, "deploy/README.md", "Uninstalling", 1))
	j.nothing(t)
}

func (j *journey) helm(t *testing.T) {
	values := filled(t, j.block(t, "deploy/README.md", "Which overlay", 2), "registry.example.com", j.registry)
	write(t, j.dir, "values.yaml", values+"extraArgs: ['"+strings.Join(bitbucketFlags, "', '")+"']\n")
	j.types(t, filled(t, j.block(t, "deploy/README.md", "Which overlay", 3), "ClientId=EDIT", "ClientId=emulator-client", "ClientSecret=EDIT", "ClientSecret=emulator-secret"))
	write(t, j.dir, "runners_config.yaml", regexp.MustCompile(`(?s)    resources:.*`).ReplaceAllString(j.block(t, "docs/configure.md", "Configuring runner groups", 0), "")+
		"    resources: {requests: {memory: 64Mi, cpu: 10m}, limits: {memory: 64Mi}}"+j.standIn())
	j.types(t, "rm -rf groups && runnerctl render -f runners_config.yaml -o groups && kubectl apply -k groups")
	j.untilOnline(t, "builds")
	j.upgraded(t, "builds", func() {
		j.edit(t, "runners_config.yaml", func(text string) string { return strings.ReplaceAll(text, j.image+":v1", j.image+":v2") })
		j.types(t, j.block(t, "docs/operate.md", "Upgrading", 1)+rollout)
	})
}

// helmWithGroups installs everything from one file of values.
func (j *journey) helmWithGroups(t *testing.T) {
	values := filled(t, j.block(t, "docs/install.md", "With Helm", 0), "registry.example.com", j.registry,
		"    docker_resources: {requests: {memory: 1Gi}, limits: {memory: 4Gi}}\n", "    resources: {requests: {memory: 64Mi, cpu: 10m}, limits: {memory: 64Mi}}\n")
	write(t, j.dir, "values.yaml", strings.TrimSuffix(values, "\n")+standIn+"    images: {runner: '"+installation.EmulatorImage+"'}\nextraArgs: ['"+strings.Join(bitbucketFlags, "', '")+"']\n")
	j.types(t, "runnerctl lint values.yaml")
	j.types(t, filled(t, j.block(t, "docs/install.md", "With Helm", 1), "ClientId=…", "ClientId=emulator-client", "ClientSecret=…", "ClientSecret=emulator-secret"))
	j.untilOnline(t, "builds")
	j.runs(t, "self.hosted", "builds")
	j.upgraded(t, "builds", func() { j.types(t, lines(j.block(t, "docs/operate.md", "Upgrading", 1))[0]+"\n"+rollout) })
}

func (j *journey) uninstallHelm(t *testing.T) {
	j.types(t, j.block(t, "deploy/README.md", "Uninstalling", 0))
	j.nobody(t)
	j.types(t, j.block(t, "deploy/README.md", "Uninstalling", 2))
	j.types(t, "kubectl delete namespace bitbucket-runner")
	j.nothing(t)
}

// version replaces the version of the README: a trial, because the checkout is edited.
const version = "0.1.0-try"

// quickstart makes a release, pushes it and installs it.
func (j *journey) quickstart(t *testing.T) {
	j.types(t, "git init -q && git add --all && git -c user.name=reader -c user.email=reader@example.com commit -qm checkout")
	j.types(t, filled(t, j.block(t, "README.md", "Quickstart", 0), "VERSION=v0.1.0", "SNAPSHOT=1 VERSION=v"+version, "registry.example.com", j.registry))
	write(t, j.dir, "values.yaml", j.quickGroups(t)+"extraArgs: ['"+strings.Join(bitbucketFlags, "', '")+"']\n")
	j.types(t, filled(t, j.block(t, "README.md", "Quickstart", 2), "0.1.0", version, "ClientId=…", "ClientId=emulator-client", "ClientSecret=…", "ClientSecret=emulator-secret"))
	j.untilOnline(t, "builds")
	j.runs(t, "self.hosted", "builds")
}

// quickGroups are the values of the quickstart, with the stand-in runner.
func (j *journey) quickGroups(t *testing.T) string {
	t.Helper()
	return strings.TrimSuffix(j.block(t, "README.md", "Quickstart", 1), "\n") + standIn + "    images: {runner: '" + installation.EmulatorImage + "'}\n" +
		"    resources: {requests: {memory: 64Mi, cpu: 10m}, limits: {memory: 64Mi}}\n"
}

// quickstartWithKustomize installs the same release without Helm.
func (j *journey) quickstartWithKustomize(t *testing.T) {
	_, groups, _ := strings.Cut(j.quickGroups(t), "\ngroups:\n")
	write(t, j.dir, "runners_config.yaml", "groups:\n"+groups)
	prepare, _, _ := strings.Cut(j.block(t, "README.md", "Quickstart", 2), "helm install")
	j.types(t, filled(t, prepare, "ClientId=…", "ClientId=emulator-client", "ClientSecret=…", "ClientSecret=emulator-secret"))
	j.edit(t, "dist/install-v"+version+".yaml", func(text string) string {
		return regexp.MustCompile(`(?m)^( *- )--grpc-listen=:9090\n`).ReplaceAllString(text, "$0$1"+strings.Join(bitbucketFlags, "\n$1")+"\n")
	})
	j.types(t, filled(t, j.block(t, "README.md", "Quickstart", 3), "v0.1.0", "v"+version, "registry.example.com", j.registry, "linux-amd64", "linux-"+runtime.GOARCH))
	j.untilOnline(t, "builds")
	j.runs(t, "self.hosted", "builds")
	j.types(t, j.block(t, "deploy/README.md", "Uninstalling", 0))
	j.nobody(t)
	j.types(t, "kubectl delete -k . --ignore-not-found") // the ScaledJobs are gone
	j.nothing(t)
}
