package deploytest

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// refusals is what the Pod Security Standards, in the words of the API server's own
// admission, have against a pod. Empty: it is admitted.
func refusals(t *testing.T, level api.Level, meta metav1.ObjectMeta, spec corev1.PodSpec) []string {
	t.Helper()
	latest := api.LatestVersion()
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), &latest)
	if err != nil {
		t.Fatal(err)
	}
	var reasons []string
	for _, result := range evaluator.EvaluatePod(api.LevelVersion{Level: level, Version: latest}, &meta, &spec) {
		if !result.Allowed {
			reasons = append(reasons, result.ForbiddenReason)
		}
	}
	return reasons
}

// enforced is the level that a namespace enforces.
func enforced(t *testing.T, namespace *corev1.Namespace) api.Level {
	t.Helper()
	level, err := api.ParseLevel(namespace.Labels[api.EnforceLevelLabel])
	if err != nil {
		t.Fatalf("namespace %s: %v", namespace.Name, err)
	}
	return level
}

func TestTheControlPlaneIsRestrictedAndItsPodsAre(t *testing.T) {
	for installation, all := range everyInstallation(t) {
		t.Run(installation, func(t *testing.T) {
			level := enforced(t, as[corev1.Namespace](t, all, "Namespace /"+controlPlane))
			if level != api.LevelRestricted {
				t.Errorf("the namespace enforces %s", level)
			}
			for key, fields := range all {
				if fields["kind"] != "Pod" {
					continue
				}
				pod := as[corev1.Pod](t, all, key)
				if reasons := refusals(t, level, pod.ObjectMeta, pod.Spec); len(reasons) > 0 {
					t.Errorf("%s is refused: %s", key, strings.Join(reasons, "; "))
				}
			}
			template := as[appsv1.Deployment](t, all, "Deployment "+controlPlane+"/"+name).Spec.Template
			if reasons := refusals(t, level, template.ObjectMeta, template.Spec); len(reasons) > 0 {
				t.Errorf("the scaler's pod is refused: %s", strings.Join(reasons, "; "))
			}
			for _, container := range template.Spec.Containers {
				if s := container.SecurityContext; s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem {
					t.Errorf("container %s can write into its image", container.Name)
				}
			}
		})
	}
}

// What is said in deploy/README.md of each way to run the Docker daemon.
func TestWhatARunnersPodAsksOfItsNamespace(t *testing.T) {
	for dir, want := range map[string]map[api.Level][]string{
		"examples": {
			api.LevelPrivileged: nil,
			api.LevelBaseline:   {"privileged"},
		},
		// A user namespace changes what root is on the node, not what is asked for.
		"test/testdata/user-namespace": {
			api.LevelPrivileged: nil,
			api.LevelBaseline:   {"privileged"},
		},
	} {
		t.Run(dir, func(t *testing.T) {
			all := kustomized(t, dir)
			template := as[kedav1alpha1.ScaledJob](t, all, "ScaledJob "+runners+"/builds").Spec.JobTargetRef.Template
			for level, expected := range want {
				if diff := cmp.Diff(expected, refusals(t, level, template.ObjectMeta, template.Spec)); diff != "" {
					t.Errorf("%s: want -, got +:\n%s", level, diff)
				}
			}
			level := enforced(t, as[corev1.Namespace](t, all, "Namespace /"+runners))
			if reasons := refusals(t, level, template.ObjectMeta, template.Spec); len(reasons) > 0 {
				t.Errorf("its own namespace refuses it: %s", strings.Join(reasons, "; "))
			}
			for _, volume := range template.Spec.Volumes {
				if volume.HostPath != nil {
					t.Errorf("volume %s is a folder of the node", volume.Name)
				}
			}
			if template.Spec.HostNetwork || template.Spec.HostPID || template.Spec.HostIPC {
				t.Error("it shares a namespace with the node")
			}
		})
	}
}

// All but the daemon is restricted, or could be: what is privileged is named.
func TestOnlyTheDaemonIsPrivileged(t *testing.T) {
	template := as[kedav1alpha1.ScaledJob](t, kustomized(t, "examples"), "ScaledJob "+runners+"/builds").Spec.JobTargetRef.Template
	spec := template.Spec.DeepCopy()
	for i, container := range spec.InitContainers {
		if container.Name == "docker" {
			spec.InitContainers = append(spec.InitContainers[:i:i], spec.InitContainers[i+1:]...)
			break
		}
	}
	if reasons := refusals(t, api.LevelBaseline, template.ObjectMeta, *spec); len(reasons) > 0 {
		t.Errorf("without the daemon the pod is not even baseline: %s", strings.Join(reasons, "; "))
	}
	sidecar := spec.DeepCopy()
	sidecar.Containers = nil
	if reasons := refusals(t, api.LevelRestricted, template.ObjectMeta, *sidecar); len(reasons) > 0 {
		t.Errorf("the sidecar is not restricted: %s", strings.Join(reasons, "; "))
	}
}
