package handbook

import (
	"encoding/base64"
	"strings"
	"testing"

	"bitbucket-runner-scaler/e2e/installation"
)

// incumbents are objects with the names of the runners-autoscaler, as its guide creates
// them: its namespace, Secret, controller and cleaner, and a Job of a runner.
const incumbents = `
apiVersion: v1
kind: Namespace
metadata: {name: bitbucket-runner-control-plane}
---
apiVersion: v1
kind: Secret
metadata: {name: runner-bitbucket-credentials, namespace: bitbucket-runner-control-plane}
stringData: {bitbucketOauthClientId: emulator-client, bitbucketOauthClientSecret: emulator-secret}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: runners-autoscaler-config, namespace: bitbucket-runner-control-plane}
data: {runners_config.yaml: "groups: []"}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: runner-controller, namespace: bitbucket-runner-control-plane}
spec:
  selector: {matchLabels: {app: runner-controller}}
  template:
    metadata: {labels: {app: runner-controller}}
    spec:
      containers:
        - {name: controller, image: IMAGE, args: ["--listen=:7990"], securityContext: {runAsUser: 0, privileged: true}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: runner-controller-cleaner, namespace: bitbucket-runner-control-plane}
spec:
  selector: {matchLabels: {app: runner-controller-cleaner}}
  template:
    metadata: {labels: {app: runner-controller-cleaner}}
    spec:
      containers:
        - {name: cleaner, image: IMAGE, args: ["--listen=:7990"], securityContext: {runAsUser: 0, privileged: true}}
---
apiVersion: v1
kind: Namespace
metadata: {name: bitbucket-runner}
---
apiVersion: batch/v1
kind: Job
metadata: {name: runner-old-1, namespace: bitbucket-runner, labels: {runner_uuid: old-1}}
spec:
  template:
    metadata: {labels: {runner_uuid: old-1}}
    spec:
      restartPolicy: Never
      containers:
        - {name: runner, image: IMAGE, args: ["--listen=:7990"]}
`

// installIncumbent installs what stands for the runners-autoscaler, before anything of the
// product is there.
func (j *journey) installIncumbent(t *testing.T) {
	if _, err := j.kube.Run(t.Context(), strings.ReplaceAll(incumbents, "IMAGE", installation.EmulatorImage), "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	j.incumbentWorks(t)
}

// incumbentWorks checks that its pods run, and come again if they are deleted.
func (j *journey) incumbentWorks(t *testing.T) {
	t.Helper()
	j.types(t, "kubectl delete pods --all -n bitbucket-runner-control-plane")
	for _, deployment := range []string{"runner-controller", "runner-controller-cleaner"} {
		j.types(t, "kubectl rollout status deployment/"+deployment+" -n bitbucket-runner-control-plane --timeout=120s")
	}
}

// deleteIncumbent stops and deletes it as the documentation says, after which the product
// works as before.
func (j *journey) deleteIncumbent(t *testing.T) {
	j.incumbentWorks(t)
	j.types(t, j.block(t, "docs/migrate.md", "Without a gap", 2))
	j.runs(t, "self.hosted", "gke.runner2")
	j.types(t, j.block(t, "docs/migrate.md", "Without a gap", 3))
	for what, command := range map[string]string{"namespace": "get namespace bitbucket-runner-control-plane", "Job": "get job runner-old-1 -n bitbucket-runner"} {
		if left, err := j.kube.Run(t.Context(), "", append(strings.Fields(command), "--ignore-not-found", "-o", "name")...); err != nil || left != "" {
			t.Errorf("the incumbent's %s is left: %q, %v", what, left, err)
		}
	}
	j.types(t, rollout)
	j.runs(t, "self.hosted", "gke.runner2")
}

// secretIsCopied checks the Secret that was copied from the incumbent's.
func (j *journey) secretIsCopied(t *testing.T) {
	t.Helper()
	for key, want := range map[string]string{"bitbucketOauthClientId": "emulator-client", "bitbucketOauthClientSecret": "emulator-secret", "namespaces": "bitbucket-runner"} {
		text, err := j.kube.Run(t.Context(), "", "get", "secret", "runner-bitbucket-credentials", "-n", installation.ControlPlane, "-o", "jsonpath={.data."+key+"}")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := base64.StdEncoding.DecodeString(text); err != nil || string(got) != want {
			t.Errorf("%s is %q, %v; want %q", key, got, err, want)
		}
	}
}
