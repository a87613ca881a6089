package jobfactory

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"bitbucket-runner-scaler/externalscaler/runnergroup"
)

// sort tells what is carried over from what is not, which it notes.
func (t *JobTemplate) sort() error {
	ours, _ := podTemplate(NewRunnerGroup("", runnergroup.Group{})) // without an overlay it has no faults
	var errs []error
	fates := func(at string, table map[string]string, value, ours any) map[string]any {
		patch, err := t.fates(at, table, value, ours)
		errs = append(errs, err)
		return patch
	}
	fates("metadata", jobMetadataFates, t.job.ObjectMeta, nil)
	fates("spec", jobFates, t.job.Spec, jobSpec(ours))
	template := &t.job.Spec.Template
	t.keepMetadata(template, ours)
	t.metadata = fates("spec.template.metadata", metadataFates, template.ObjectMeta, nil)
	pod := &template.Spec
	t.keepVolumes(pod)
	t.pod = fates("spec.template.spec", podFates, *pod, ours.Spec)
	for _, c := range pod.InitContainers {
		t.note("spec.template.spec.initContainers["+c.Name+"]", "a group's pod_template may add it")
	}
	for i := range pod.Containers {
		c := &pod.Containers[i]
		at := "spec.template.spec.containers[" + c.Name + "]"
		switch {
		case c.Name == runnerContainer:
			t.keepMounts(at, pod, c, append(buildMounts(true), corev1.VolumeMount{Name: sharedVolume, MountPath: SharedDir}))
			t.keepEnv(at, c)
			t.runner = fates(at, containerFates, *c, nil)
		case isDaemon(*c) && t.daemon == nil:
			t.keepMounts(at, pod, c, buildMounts(false))
			t.keepEnv(at, c)
			t.daemon = fates(at, containerFates, *c, *find(ours.Spec.InitContainers, dockerContainer, containerName))
			if len(c.Env) > 0 {
				t.daemon["env"] = c.Env
			}
			if runner := find(pod.Containers, runnerContainer, containerName); c.ImagePullPolicy != "" && c.ImagePullPolicy != runner.ImagePullPolicy {
				t.note(at+".imagePullPolicy", "a group has one image_pull_policy for both, and the runner's is taken")
			}
		default:
			t.note(at, "the Job ends with its last container; a group's pod_template may add it as an init container with restartPolicy Always")
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return t.check()
}

// check finds what no group could be rendered with, rather than blame the groups.
func (t *JobTemplate) check() error {
	g := NewRunnerGroup("any", runnergroup.Group{})
	t.apply(&g)
	t.overlay(&g)
	if faults := g.manifestFaults(); len(faults) > 0 {
		return fmt.Errorf("what it says, as a group's own keys would: %w", errors.Join(faults...))
	}
	return nil
}

// isDaemon says whether a container is the Docker daemon, whatever its name.
func isDaemon(c corev1.Container) bool {
	return c.SecurityContext != nil && c.SecurityContext.Privileged != nil && *c.SecurityContext.Privileged || strings.Contains(c.Image, "dind")
}

// keepMetadata leaves out what the pods have a value of their own for, and the
// architecture, which the group says.
func (t *JobTemplate) keepMetadata(template *corev1.PodTemplateSpec, ours corev1.PodTemplateSpec) {
	const at = "spec.template."
	drop := func(path string, from, own map[string]string, instead string) {
		for _, key := range slices.Sorted(maps.Keys(own)) {
			value := own[key]
			if given, ok := from[key]; ok {
				delete(from, key)
				if given != value {
					t.note(at+path+"."+key, value+instead)
				}
			}
		}
	}
	drop("metadata.labels", template.Labels, ours.Labels, ", by which the pods are found")
	drop("metadata.annotations", template.Annotations, ours.Annotations, ", or an autoscaler would evict runners")
	drop("spec.nodeSelector", template.Spec.NodeSelector, map[string]string{archLabel: ""}, "a group's architecture says it")
}

// keepVolumes leaves out those that the pod has itself.
func (t *JobTemplate) keepVolumes(pod *corev1.PodSpec) {
	plain := written(corev1.EmptyDirVolumeSource{})
	pod.Volumes = slices.DeleteFunc(pod.Volumes, func(v corev1.Volume) bool {
		own := slices.Contains(ownVolumes, v.Name)
		if own && v.VolumeSource != (corev1.VolumeSource{}) && (v.EmptyDir == nil || written(v.EmptyDir) != plain) {
			t.note("spec.template.spec.volumes["+v.Name+"]", "the pod has an emptyDir of that name, which its containers share; a group's volumes may have another name")
		}
		return own
	})
}

// keepMounts leaves out those that the container has itself, and those that would
// hide one.
func (t *JobTemplate) keepMounts(at string, pod *corev1.PodSpec, c *corev1.Container, own []corev1.VolumeMount) {
	c.VolumeMounts = slices.DeleteFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool {
		path := at + ".volumeMounts[" + m.MountPath + "]"
		hidden := slices.IndexFunc(own, func(o corev1.VolumeMount) bool { return overlap(o.MountPath, m.MountPath) })
		switch {
		case hidden >= 0 && own[hidden].Name == m.Name && resolved(own[hidden].MountPath) == resolved(m.MountPath) && m.SubPath+m.SubPathExpr == "":
			return true // the same as ours
		case hidden >= 0:
			t.note(path, "the container has a mount of its own at "+own[hidden].MountPath)
		case find(pod.Volumes, m.Name, volumeName) == nil:
			t.note(path, "its volume is not carried over")
		default:
			own = append(own, m)
			return false
		}
		return true
	})
}

// givenAnyway are the values that the sidecar gives the runner whatever a template says.
var givenAnyway = map[string]string{"WORKING_DIRECTORY": "/tmp", "RUNTIME_PREREQUISITES_ENABLED": "true"}

// keepEnv leaves out the runner's identity, and where another daemon would listen.
func (t *JobTemplate) keepEnv(at string, c *corev1.Container) {
	all := c.Env
	c.Env = nil
	for i, v := range all {
		path := fmt.Sprintf("%s.env[%s]", at, v.Name)
		switch {
		case slices.ContainsFunc(all[i+1:], func(later corev1.EnvVar) bool { return later.Name == v.Name }):
			t.note(path, "it is given again, and the last one is taken")
		case slices.Contains(identity, v.Name) || strings.HasPrefix(v.Name, "SIDECAR_"):
			if v.Value != givenAnyway[v.Name] || v.ValueFrom != nil {
				t.note(path, "the sidecar gives the runner this one")
			}
		case strings.HasPrefix(v.Name, "DOCKER_TLS_") || v.Name == "DOCKER_CERT_PATH" || v.Name == "DOCKER_HOST":
			if v.Value != "" && v.Value != "unix:///var/run/docker.sock" || v.ValueFrom != nil {
				t.note(path, "the Docker daemon listens on unix:///var/run/docker.sock alone")
			}
		default:
			c.Env = append(c.Env, v)
		}
	}
}

// apply lays what is carried over on a group's defaults, before its own settings.
func (t *JobTemplate) apply(g *RunnerGroup) {
	pod := *t.job.Spec.Template.Spec.DeepCopy()
	g.NodeSelector, g.Tolerations, g.Affinity, g.PriorityClass = pod.NodeSelector, pod.Tolerations, pod.Affinity, pod.PriorityClassName
	for _, secret := range pod.ImagePullSecrets {
		g.PullSecrets = append(g.PullSecrets, secret.Name)
	}
	if pod.TerminationGracePeriodSeconds != nil {
		g.GracePeriod = time.Duration(*pod.TerminationGracePeriodSeconds) * time.Second
	}
	g.Volumes = pod.Volumes
	daemon := false
	for _, c := range pod.Containers {
		switch {
		case c.Name == runnerContainer:
			carry(c, &g.Images.Runner, &g.Resources)
			g.VolumeMounts, g.Env, g.PullPolicy = c.VolumeMounts, c.Env, c.ImagePullPolicy
		case isDaemon(c) && !daemon:
			daemon = true
			carry(c, &g.Images.Docker, &g.DockerResources)
			g.DockerVolumeMounts = c.VolumeMounts
		}
	}
}

func carry(c corev1.Container, image *string, resources *corev1.ResourceRequirements) {
	if c.Image != "" {
		*image = c.Image
	}
	if len(c.Resources.Requests)+len(c.Resources.Limits)+len(c.Resources.Claims) > 0 {
		*resources = c.Resources
	}
}

// overlay carries the rest over, below the group's own pod_template. It comes when
// the group has said whether it has a daemon.
func (t *JobTemplate) overlay(g *RunnerGroup) {
	spec := map[string]any{}
	for key, value := range t.pod {
		spec[key] = value
	}
	container := func(list, name string, fields map[string]any) {
		if len(fields) > 0 {
			patch := map[string]any{"name": name}
			for key, value := range fields {
				patch[key] = value
			}
			spec[list] = []any{patch}
		}
	}
	container("containers", runnerContainer, t.runner)
	if g.Docker {
		container("initContainers", dockerContainer, t.daemon)
	}
	patch := map[string]any{}
	if len(t.metadata) > 0 {
		patch["metadata"] = t.metadata
	}
	if len(spec) > 0 {
		patch["spec"] = spec
	}
	if len(patch) == 0 {
		return
	}
	if data, err := json.Marshal(patch); err == nil { // it was read from JSON
		g.PodTemplates = append(g.PodTemplates, data)
	}
}
