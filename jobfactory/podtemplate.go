package jobfactory

import (
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
)

var ownVolumes = []string{tokenVolume, sharedVolume, tmpVolume, containersVolume, runVolume}

// podTemplate is the template of the group's pods, overlays merged. The faults
// are those of the overlays: keys that Kubernetes does not have, and what the
// scaler depends on and is no longer there.
func podTemplate(g RunnerGroup) (corev1.PodTemplateSpec, []error) {
	plain := corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{
			Labels: appLabels(),
			Annotations: map[string]string{
				"cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
				"karpenter.sh/do-not-disrupt":                    "true",
			},
		},
		Spec: podSpec(g),
	}
	merged := plain
	for _, patch := range g.PodTemplates {
		var faults []error
		if merged, faults = overlay(merged, patch); len(faults) > 0 {
			return corev1.PodTemplateSpec{}, faults
		}
	}
	if len(g.PodTemplates) == 0 {
		return plain, nil
	}
	return merged, missingFrom(merged, plain)
}

func overlay(template corev1.PodTemplateSpec, patch json.RawMessage) (corev1.PodTemplateSpec, []error) {
	const at = "pod_template"
	var fields map[string]any
	if err := json.Unmarshal(patch, &fields); err != nil {
		return template, []error{fault(at, string(patch), "a mapping: "+err.Error())}
	}
	undirected, err := json.Marshal(withoutDirectives(fields))
	if err != nil {
		return template, []error{fault(at, string(patch), "a mapping: "+err.Error())}
	}
	var faults []error
	for _, f := range decodeFaults(undirected, at, &corev1.PodTemplateSpec{}) {
		faults = append(faults, f)
	}
	if len(faults) > 0 {
		return template, faults
	}
	original, err := json.Marshal(template)
	if err != nil {
		return template, []error{&ConfigError{Path: at, Accepted: "cannot be merged: " + err.Error()}}
	}
	merged, err := strategicpatch.StrategicMergePatch(original, patch, corev1.PodTemplateSpec{})
	if err != nil {
		return template, []error{&ConfigError{Path: at, Accepted: "want a strategic merge patch: " + err.Error()}}
	}
	var result corev1.PodTemplateSpec
	if err := json.Unmarshal(merged, &result); err != nil {
		return template, []error{&ConfigError{Path: at, Accepted: "want a strategic merge patch: " + err.Error()}}
	}
	return result, nil
}

// withoutDirectives leaves out $patch and its like, which no type has.
func withoutDirectives(value any) any {
	switch v := value.(type) {
	case map[string]any:
		kept := make(map[string]any, len(v))
		for key, field := range v {
			if !strings.HasPrefix(key, "$") {
				kept[key] = withoutDirectives(field)
			}
		}
		return kept
	case []any:
		kept := make([]any, len(v))
		for i, item := range v {
			kept[i] = withoutDirectives(item)
		}
		return kept
	}
	return value
}

// missingFrom holds a merged pod template against the plain one: what the scaler,
// the sidecar and the reaper rely on.
func missingFrom(merged, plain corev1.PodTemplateSpec) []error {
	c := &comparison{}
	got, want := merged.Spec, plain.Spec
	for _, key := range []string{"cluster-autoscaler.kubernetes.io/safe-to-evict", "karpenter.sh/do-not-disrupt"} {
		c.same("metadata.annotations."+key, merged.Annotations[key], plain.Annotations[key], "an autoscaler would evict runners")
	}
	for _, key := range slices.Sorted(maps.Keys(plain.Labels)) {
		c.same("metadata.labels."+key, merged.Labels[key], plain.Labels[key], "the pods are found by it")
	}
	c.same("spec.restartPolicy", got.RestartPolicy, want.RestartPolicy, "a runner's Job ends with its runner")
	c.same("spec.serviceAccountName", got.ServiceAccountName, want.ServiceAccountName, "the account has no rights, which builds could use")
	c.same("spec.automountServiceAccountToken", got.AutomountServiceAccountToken, want.AutomountServiceAccountToken, "builds must not see a token")
	c.same("spec.activeDeadlineSeconds", got.ActiveDeadlineSeconds, nil, "it would kill a busy runner")
	c.same("spec.terminationGracePeriodSeconds", got.TerminationGracePeriodSeconds, want.TerminationGracePeriodSeconds, "the group's grace_period says it")
	c.same("spec.shareProcessNamespace", got.ShareProcessNamespace, nil, "sidecar exec must be the first process, and its secret unseen")
	c.same("spec.hostPID", got.HostPID, false, "the runner's secret would be seen from other containers")
	c.same("spec.nodeSelector."+archLabel, got.NodeSelector[archLabel], want.NodeSelector[archLabel], "Bitbucket knows the runners by it")
	for _, volume := range want.Volumes {
		if slices.Contains(ownVolumes, volume.Name) {
			c.same("spec.volumes["+volume.Name+"]", find(got.Volumes, volume.Name, volumeName), &volume, "sidecar, daemon and runner share it")
		}
	}
	for _, container := range want.InitContainers {
		c.container("spec.initContainers["+container.Name+"]", find(got.InitContainers, container.Name, containerName), container)
	}
	if slices.IndexFunc(got.InitContainers, func(c corev1.Container) bool { return c.Name == sidecarContainer }) > 0 {
		c.add("spec.initContainers[0]", got.InitContainers[0].Name, "the sidecar first: what comes before it delays the registration")
	}
	c.container("spec.containers["+runnerContainer+"]", find(got.Containers, runnerContainer, containerName), want.Containers[0])
	for _, container := range got.Containers {
		if container.Name != runnerContainer {
			c.add("spec.containers["+container.Name+"]", container.Name, "an init container with restartPolicy Always: the Job ends with its last container")
		}
	}
	c.private(got)
	return c.faults
}

type comparison struct{ faults []error }

func (c *comparison) add(at, given, accepted string) {
	c.faults = append(c.faults, fault("pod_template."+at, given, accepted))
}

func (c *comparison) same(at string, got, want any, why string) {
	if written(got) != written(want) {
		c.add(at, written(got), written(want)+": "+why)
	}
}

// written is a value as JSON; what is not given is null.
func written(value any) string {
	if v := reflect.ValueOf(value); v.Kind() == reflect.String {
		return v.String()
	}
	data, err := json.Marshal(value)
	if err != nil {
		return err.Error()
	}
	return string(data)
}

// container checks what makes a container the one that it is.
func (c *comparison) container(at string, got *corev1.Container, want corev1.Container) {
	if got == nil {
		c.faults = append(c.faults, &ConfigError{Path: "pod_template." + at, Accepted: "missing, want the container kept"})
		return
	}
	c.same(at+".command", got.Command, want.Command, "sidecar, exec and entrypoint are started by it")
	if want.Name != runnerContainer { // the entrypoint may be given arguments
		c.same(at+".args", got.Args, want.Args, "the container is started by it")
	}
	c.same(at+".restartPolicy", got.RestartPolicy, want.RestartPolicy, "a native sidecar is one by it")
	if want.Lifecycle != nil {
		c.same(at+".lifecycle", got.Lifecycle, want.Lifecycle, "a deleted pod's runner is drained by it")
	}
	if want.Name == sidecarContainer {
		c.same(at+".startupProbe", got.StartupProbe, want.StartupProbe, "the runner waits for its registration")
	}
	if got.LivenessProbe != nil {
		c.add(at+".livenessProbe", written(got.LivenessProbe), "none: a restarted container loses the step")
	}
	for _, variable := range want.Env {
		if !strings.HasSuffix(strings.ToUpper(variable.Name), "_PROXY") {
			c.same(at+".env["+variable.Name+"]", find(got.Env, variable.Name, envName), &variable, "it says where the others are")
		}
	}
	for _, mount := range want.VolumeMounts {
		c.same(at+".volumeMounts["+mount.MountPath+"]", find(got.VolumeMounts, mount.MountPath, mountPath), &mount, "the containers share it")
	}
	if want.Name == runnerContainer {
		for _, variable := range got.Env {
			if (slices.Contains(identity, variable.Name) || strings.HasPrefix(variable.Name, "SIDECAR_")) && find(want.Env, variable.Name, envName) == nil {
				c.add(at+".env["+variable.Name+"]", variable.Value, "no such variable: the sidecar gives the runner its identity")
			}
		}
	}
}

// private checks that nobody else has the sidecar's token, or its socket.
func (c *comparison) private(pod corev1.PodSpec) {
	check := func(kind string, container corev1.Container, ours bool) {
		for _, mount := range container.VolumeMounts {
			if mount.Name == tokenVolume && !ours || mount.Name == sharedVolume && !ours && container.Name != runnerContainer {
				c.add("spec."+kind+"["+container.Name+"].volumeMounts["+mount.MountPath+"]", mount.Name, "another volume: this one is the sidecar's")
			}
		}
	}
	for _, container := range pod.InitContainers {
		check("initContainers", container, container.Name == sidecarContainer)
	}
	for _, container := range pod.Containers {
		check("containers", container, false)
	}
}

func volumeName(v corev1.Volume) string       { return v.Name }
func containerName(c corev1.Container) string { return c.Name }
func envName(v corev1.EnvVar) string          { return v.Name }
func mountPath(m corev1.VolumeMount) string   { return m.MountPath }

func find[T any](items []T, name string, of func(T) string) *T {
	if i := slices.IndexFunc(items, func(item T) bool { return of(item) == name }); i >= 0 {
		return &items[i]
	}
	return nil
}

// overlap says whether one path lies in the other. /var/run is a link to /run in
// many images.
func overlap(a, b string) bool {
	a, b = resolved(a), resolved(b)
	return strings.HasPrefix(a, b) || strings.HasPrefix(b, a)
}

func resolved(mount string) string {
	mount = path.Clean(mount)
	if mount == "/var/run" || strings.HasPrefix(mount, "/var/run/") {
		mount = strings.TrimPrefix(mount, "/var")
	}
	return fmt.Sprintf("%s/", strings.TrimSuffix(mount, "/"))
}
