package config_test

import (
	"os"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"

	"bitbucket-runner-scaler/jobfactory/config"
	"bitbucket-runner-scaler/jobfactory/lint"
)

func TestAShellGroupHasNoDockerAndNoPrivilege(t *testing.T) {
	const path = "../../deploy/examples/linux-shell/runners_config.yaml"
	manifests := render(t, path)
	objects := decodeStrictly(t, manifests)
	job := only[kedav1alpha1.ScaledJob](t, objects)
	if got := job.Spec.Triggers[0].Metadata["os"]; got != "linux.shell" {
		t.Errorf("os is %q", got)
	}
	pod := job.Spec.JobTargetRef.Template.Spec
	if len(pod.InitContainers) != 1 || len(pod.Containers) != 1 || strings.Contains(string(manifests), "privileged") {
		t.Errorf("a container beside sidecar and runner, or a privileged one:\n%s", manifests)
	}
	if _, ok := pod.NodeSelector[corev1.LabelArchStable]; ok {
		t.Errorf("nodes %v, want any: the label linux.shell does not say the architecture", pod.NodeSelector)
	}
	if got := only[corev1.Namespace](t, objects).Labels["pod-security.kubernetes.io/enforce"]; got != "baseline" {
		t.Errorf("the namespace enforces %q, want baseline", got)
	}
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	in := &lint.Input{}
	in.Read("runners_config.yaml", file)
	in.Read("manifests.yaml", manifests)
	for _, finding := range lint.Check(in, lint.DefaultOptions()) {
		t.Errorf("%+v", finding)
	}
}

func TestAShellGroupsArchitectureSelectsItsNodes(t *testing.T) {
	const shell = good + "  os: linux.shell\n"
	file, err := config.Read([]byte(shell + "  architecture: arm64\n"))
	if err != nil {
		t.Fatal(err)
	}
	if g := file.Groups[0]; g.NodeSelector[corev1.LabelArchStable] != "arm64" || g.Group.OS != "linux.shell" || g.Docker {
		t.Errorf("got %+v", g)
	}
	for keys, want := range map[string]string{
		"docker: true": `groups[0].docker: "true", want false with os linux.shell`,
		"architecture: arm64\n  node_selector: {kubernetes.io/arch: amd64}": `groups[0].architecture: "arm64", want amd64, as node_selector says`,
		"architecture: riscv": `groups[0].architecture: "riscv", want amd64 or arm64`,
	} {
		if _, err := config.Read([]byte(shell + "  " + keys + "\n")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", keys, err, want)
		}
	}
}
