package jobfactory_test

import (
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"bitbucket-runner-scaler/externalscaler/runnergroup"
	"bitbucket-runner-scaler/jobfactory"
)

func group(t *testing.T, metadata map[string]string) jobfactory.RunnerGroup {
	t.Helper()
	all := map[string]string{"workspace": "acme", "labels": "builds"}
	for key, value := range metadata {
		all[key] = value
	}
	parsed, err := runnergroup.Parse(all)
	if err != nil {
		t.Fatal(err)
	}
	return jobfactory.NewRunnerGroup("builds", parsed)
}

func scaledJob(t *testing.T, g jobfactory.RunnerGroup) *kedav1alpha1.ScaledJob {
	t.Helper()
	job, err := jobfactory.ScaledJob(g)
	if err != nil {
		t.Fatal(err)
	}
	return job
}

func TestMaxReplicaCountIsTheScalersMaximum(t *testing.T) {
	for name, test := range map[string]struct {
		metadata map[string]string
		want     int32
	}{
		"by default":         {nil, 10},
		"max":                {map[string]string{"max": "37"}, 37},
		"fixed":              {map[string]string{"strategy": "fixed", "count": "4"}, 4},
		"fixed at 0":         {map[string]string{"strategy": "fixed", "count": "0"}, 1},
		"max 1":              {map[string]string{"max": "1"}, 1},
		"at Bitbucket's 100": {map[string]string{"max": "100"}, 100},
	} {
		t.Run(name, func(t *testing.T) {
			job := scaledJob(t, group(t, test.metadata))
			if got := job.MaxReplicaCount(); got != int64(test.want) {
				t.Errorf("KEDA reads a maximum of %d, want %d", got, test.want)
			}
			if job.Spec.MinReplicaCount != nil {
				t.Errorf("minReplicaCount %d, want none: KEDA adds it to the metric", *job.Spec.MinReplicaCount)
			}
		})
	}
}

func TestScaledJobSuitsKEDA(t *testing.T) {
	g := group(t, map[string]string{"max": "5", "coolDown": "60s"})
	spec := scaledJob(t, g).Spec
	if got := spec.ScalingStrategy; !cmp.Equal(got, kedav1alpha1.ScalingStrategy{Strategy: "default"}) {
		t.Errorf("scaling strategy %+v, want only default", got)
	}
	if got := spec.Rollout.Strategy; got != "gradual" {
		t.Errorf("rollout %q, want gradual: any other kills running Jobs", got)
	}
	want := []kedav1alpha1.ScaleTriggers{{Type: "external", Metadata: map[string]string{
		"workspace": "acme", "labels": "builds", "max": "5", "coolDown": "1m0s", "scalerAddress": jobfactory.DefaultScalerAddress, "enableTLS": "true",
	}, AuthenticationRef: &kedav1alpha1.AuthenticationRef{Name: jobfactory.TriggerAuthentication}}}
	if diff := cmp.Diff(want, spec.Triggers); diff != "" {
		t.Errorf("triggers: want -, got +:\n%s", diff)
	}
	plain := g
	plain.TLS = false
	if got := scaledJob(t, plain).Spec.Triggers[0]; got.AuthenticationRef != nil || got.Metadata["enableTLS"] != "" {
		t.Errorf("without TLS: got %+v", got)
	}
	read, err := runnergroup.Parse(spec.Triggers[0].Metadata)
	if err != nil || !cmp.Equal(read, g.Group) {
		t.Errorf("the scaler reads %+v, %v; want %+v", read, err, g.Group)
	}
	job := spec.JobTargetRef
	if *job.BackoffLimit != 0 || *job.Parallelism != 1 || *job.Completions != 1 || *job.PodReplacementPolicy != batchv1.Failed {
		t.Errorf("a Job may have more than one pod: %+v", job)
	}
	if *spec.SuccessfulJobsHistoryLimit != 2 || *spec.FailedJobsHistoryLimit != 2 || *spec.PollingInterval != 5 {
		t.Errorf("histories %d, %d, polling %d; want 2, 2, 5", *spec.SuccessfulJobsHistoryLimit, *spec.FailedJobsHistoryLimit, *spec.PollingInterval)
	}
}

func TestOnlyTheSidecarHasTheToken(t *testing.T) {
	pod := scaledJob(t, group(t, nil)).Spec.JobTargetRef.Template.Spec
	got := map[string][]string{}
	for _, container := range slices.Concat(pod.InitContainers, pod.Containers) {
		for _, mount := range container.VolumeMounts {
			got[mount.Name] = append(got[mount.Name], container.Name)
		}
	}
	want := map[string][]string{
		"token":                   {"sidecar"},
		"bitbucket-runner-scaler": {"sidecar", "runner"},
		"tmp":                     {"docker", "runner"},
		"docker-containers":       {"docker", "runner"},
		"var-run":                 {"docker", "runner"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("mounts by volume: want -, got +:\n%s", diff)
	}
	if *pod.AutomountServiceAccountToken {
		t.Error("every container gets a token")
	}
	token := pod.Volumes[slices.IndexFunc(pod.Volumes, func(v corev1.Volume) bool { return v.Name == "token" })]
	projection := token.Projected.Sources[0].ServiceAccountToken
	if projection.Audience != "bitbucket-runner-scaler" || projection.Path != "token" || *projection.ExpirationSeconds != 43200 {
		t.Errorf("token: %+v", projection)
	}
}

// The kubelet renews a token after four fifths of its life, but not the token of a pod
// that is being deleted.
func TestAFifthOfTheTokensLifeOutlastsADrain(t *testing.T) {
	for _, grace := range []time.Duration{0, jobfactory.DefaultGracePeriod, 12 * time.Hour, 168 * time.Hour} {
		g := group(t, nil)
		g.GracePeriod = grace
		token := scaledJob(t, g).Spec.JobTargetRef.Template.Spec.Volumes[0].Projected.Sources[0].ServiceAccountToken
		if life := time.Duration(*token.ExpirationSeconds) * time.Second; life/5 < grace || life < 12*time.Hour {
			t.Errorf("grace period %s: the token lives %s", grace, life)
		}
	}
}

// /var/run is a link to /run in many images, so that mounts in one are in the other too.
func TestNoMountHidesAnother(t *testing.T) {
	pod := scaledJob(t, group(t, nil)).Spec.JobTargetRef.Template.Spec
	for _, container := range slices.Concat(pod.InitContainers, pod.Containers) {
		var paths []string
		for _, mount := range container.VolumeMounts {
			resolved := path.Clean(mount.MountPath)
			if rest, ok := strings.CutPrefix(resolved, "/var/run"); ok {
				resolved = "/run" + rest
			}
			for _, other := range paths {
				if strings.HasPrefix(resolved+"/", other+"/") || strings.HasPrefix(other+"/", resolved+"/") {
					t.Errorf("%s: %s and %s overlap", container.Name, other, resolved)
				}
			}
			paths = append(paths, resolved)
		}
	}
}

func TestThePodEndsWithItsRunner(t *testing.T) {
	pod := scaledJob(t, group(t, nil)).Spec.JobTargetRef.Template.Spec
	var native []string
	for _, container := range pod.InitContainers {
		if container.RestartPolicy == nil || *container.RestartPolicy != corev1.ContainerRestartPolicyAlways || container.StartupProbe == nil {
			t.Errorf("%s is not a native sidecar with a startup probe", container.Name)
		}
		native = append(native, container.Name)
	}
	if diff := cmp.Diff([]string{"sidecar", "docker"}, native); diff != "" || len(pod.Containers) != 1 || pod.RestartPolicy != corev1.RestartPolicyNever {
		t.Errorf("init containers (want -, got +): %s\ncontainers %d, restart policy %s", diff, len(pod.Containers), pod.RestartPolicy)
	}
	if got, want := pod.Containers[0].Command, []string{"/opt/bitbucket-runner-scaler/sidecar", "exec", "--", "/opt/atlassian/pipelines/runner/entrypoint.sh"}; !cmp.Equal(got, want) {
		t.Errorf("runner's command %q, want %q", got, want)
	}
	if got := *pod.TerminationGracePeriodSeconds; got != 7800 {
		t.Errorf("grace period %d s, want 7800", got)
	}
}

func TestWithoutDockerNothingIsPrivileged(t *testing.T) {
	g := group(t, nil)
	g.Docker, g.Images.Docker, g.Entrypoint = false, "", []string{"/stand-in"}
	pod := scaledJob(t, g).Spec.JobTargetRef.Template.Spec
	for _, container := range slices.Concat(pod.InitContainers, pod.Containers) {
		if s := container.SecurityContext; s != nil && s.Privileged != nil && *s.Privileged {
			t.Errorf("%s is privileged", container.Name)
		}
	}
	if len(pod.InitContainers) != 1 || pod.Containers[0].Command[3] != "/stand-in" {
		t.Errorf("%d init containers, command %q", len(pod.InitContainers), pod.Containers[0].Command)
	}
}

func TestEqualGroupsGiveEqualAndSeparateScaledJobs(t *testing.T) {
	g := group(t, nil)
	g.NodeSelector = map[string]string{"customer": "shared"}
	first, second := scaledJob(t, g), scaledJob(t, g)
	first.Spec.JobTargetRef.Template.Spec.NodeSelector["x"] = "y"
	delete(first.Spec.JobTargetRef.Template.Spec.NodeSelector, "x")
	if diff := cmp.Diff(first, second); diff != "" {
		t.Errorf("first -, second +:\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"customer": "shared"}, g.NodeSelector); diff != "" {
		t.Errorf("the group was changed: want -, got +:\n%s", diff)
	}
}
