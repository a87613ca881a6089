package jobfactory

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// comparePodTemplates compares a merged pod template with the plain one. It reports
// changes of what the scaler, the sidecar and the reaper rely on. What holds for every
// runner's pod, from render or written by hand, is in JobRules.
func comparePodTemplates(merged, plain corev1.PodTemplateSpec) faults {
	c := &comparison{}
	got, want := merged.Spec, plain.Spec
	for _, key := range slices.Sorted(maps.Keys(plain.Labels)) {
		c.same("metadata.labels."+key, merged.Labels[key], plain.Labels[key], "the label selects the pods")
	}
	c.same("spec.terminationGracePeriodSeconds", got.TerminationGracePeriodSeconds, want.TerminationGracePeriodSeconds, "the group's grace_period sets it")
	for _, volume := range want.Volumes {
		if slices.Contains(ownVolumes, volume.Name) {
			c.same("spec.volumes["+volume.Name+"]", find(got.Volumes, volume.Name, volumeName), &volume, "the sidecar, the daemon and the runner share it")
		}
	}
	for _, container := range want.InitContainers {
		c.container("spec.initContainers["+container.Name+"]", find(got.InitContainers, container.Name, containerName), container)
	}
	c.container("spec.containers["+RunnerContainer+"]", find(got.Containers, RunnerContainer, containerName), want.Containers[0])
	return c.faults
}

// comparison collects differences as faults of pod_template.
type comparison struct{ faults faults }

func (c *comparison) add(at, given, accepted string) {
	c.faults.add(patchPath+"."+at, given, accepted)
}

// same reports a value that differs. why says what depends on the value.
func (c *comparison) same(at string, got, want any, why string) {
	if shown(got) != shown(want) {
		c.add(at, shown(got), shown(want)+": "+why)
	}
}

// shown returns a string as it is and any other value as JSON; a value that is not
// given is null.
func shown(value any) string {
	if v := reflect.ValueOf(value); v.Kind() == reflect.String {
		return v.String()
	}
	data, err := json.Marshal(value)
	if err != nil {
		return err.Error()
	}
	return string(data)
}

// container compares the fields that a container needs for its task.
func (c *comparison) container(at string, got *corev1.Container, want corev1.Container) {
	if got == nil {
		c.faults = append(c.faults, &ConfigError{Path: patchPath + "." + at, Accepted: "missing, want the container kept"})
		return
	}
	c.same(at+".command", got.Command, want.Command, "it starts the sidecar, `sidecar exec` or the daemon")
	if want.Name != RunnerContainer { // the runner's entrypoint may have arguments
		c.same(at+".args", got.Args, want.Args, "they belong to the container's command")
	}
	c.same(at+".restartPolicy", got.RestartPolicy, want.RestartPolicy, "it makes the container a native sidecar")
	if want.Lifecycle != nil {
		c.same(at+".lifecycle", got.Lifecycle, want.Lifecycle, "it drains the runner of a deleted pod")
	}
	if want.Name == sidecarContainer {
		c.same(at+".startupProbe", got.StartupProbe, want.StartupProbe, "the runner waits for its registration")
	}
	for _, variable := range want.Env {
		if !strings.HasSuffix(strings.ToUpper(variable.Name), "_PROXY") {
			c.same(at+".env["+variable.Name+"]", find(got.Env, variable.Name, envName), &variable, "the containers find each other by it")
		}
	}
	for _, mount := range want.VolumeMounts {
		c.same(at+".volumeMounts["+mount.MountPath+"]", find(got.VolumeMounts, mount.MountPath, mountPath), &mount, "the containers share it")
	}
	if want.Name == RunnerContainer {
		for _, variable := range got.Env {
			if ReservedVariable(variable.Name) && !IdentityVariable(variable.Name) && find(want.Env, variable.Name, envName) == nil {
				c.add(at+".env["+variable.Name+"]", variable.Value, "no such variable: it configures the sidecar")
			}
		}
	}
}

func volumeName(v corev1.Volume) string       { return v.Name }
func containerName(c corev1.Container) string { return c.Name }
func envName(v corev1.EnvVar) string          { return v.Name }
func mountPath(m corev1.VolumeMount) string   { return m.MountPath }
