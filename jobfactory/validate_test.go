package jobfactory_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"bitbucket-runner-scaler/jobfactory"
)

func TestValidateReportsEveryFault(t *testing.T) {
	g := group(t, nil)
	g.Name, g.Namespace = "Not A Name", jobfactory.ControlPlaneNamespace
	g.Group.Workspace, g.Group.Rules.Min = "", 11
	g.Images.Runner, g.Images.Docker = "", "a b"
	g.ScalerAddress, g.PollingInterval, g.GracePeriod, g.Entrypoint = "nowhere", time.Millisecond, -time.Second, nil
	g.NodeSelector = map[string]string{"kubernetes.io/arch": "arm64"}
	g.Tolerations = []corev1.Toleration{{Operator: "Like", Effect: "NoIdea"}}
	g.Resources.Requests[corev1.ResourceCPU] = g.Resources.Limits[corev1.ResourceMemory]
	_, err := jobfactory.ScaledJob(g)
	var f *jobfactory.ConfigError
	if !errors.As(err, &f) {
		t.Fatalf("got %v, want ConfigErrors", err)
	}
	for _, want := range []string{
		`name: "Not A Name", want `, `namespace: "bitbucket-runner-scaler", want another`, `workspace: missing`, `parameters.min: "11", want at most max`,
		`images.runner: "", want `, `images.docker: "a b", want `, `scaler_address: "nowhere", want host:port`,
		`polling_interval: "1ms", want `, `grace_period: "-1s", want `, `entrypoint: "", want `, `node_selector.kubernetes.io/arch: "arm64", want `,
		`tolerations[0].operator: "Like", want `, `tolerations[0].effect: "NoIdea", want `, `tolerations[0].key: `, `resources.requests.cpu: "4Gi", want at most the limit`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("not reported: %s\ngot: %v", want, err)
		}
	}
}

func TestReservedNamespacesAreRefused(t *testing.T) {
	for _, namespace := range []string{jobfactory.ControlPlaneNamespace, jobfactory.IncumbentNamespace, "kube-system", "kube-public", "kube-node-lease"} {
		g := group(t, nil)
		g.Namespace = namespace
		if err := g.Validate(); err == nil || !strings.Contains(err.Error(), "want another namespace") {
			t.Errorf("%s: got %v, want a refusal", namespace, err)
		}
	}
}
