package jobtemplate

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
	"bitbucket-runner-scaler/jobfactory"
)

// defaultGroup returns a group with the defaults of everything.
func defaultGroup() (jobfactory.RunnerGroup, error) {
	group, err := runnergroup.Parse(map[string]string{"workspace": "any", "labels": "any"})
	return jobfactory.NewRunnerGroup("any", group), err
}

// divide divides the template into what is carried over and what is not, for which
// it adds notes.
func (t *Template) divide() error {
	group, err := defaultGroup()
	if err != nil {
		return err
	}
	scaledJob, err := jobfactory.ScaledJob(group)
	if err != nil {
		return err
	}
	own := scaledJob.Spec.JobTargetRef
	var errs []error
	patch := func(at string, handling map[string]string, value, own any) map[string]any {
		fields, err := t.patch(at, handling, value, own)
		errs = append(errs, err)
		return fields
	}
	patch("metadata", jobMetadataFields, t.job.ObjectMeta, nil)
	patch("spec", jobFields, t.job.Spec, own)
	template := &t.job.Spec.Template
	t.filterMetadata(template, own.Template)
	t.metadata = patch("spec.template.metadata", metadataFields, template.ObjectMeta, nil)
	pod := &template.Spec
	t.filterVolumes(pod, own.Template.Spec.Volumes)
	t.pod = patch("spec.template.spec", podFields, *pod, own.Template.Spec)
	t.divideContainers(pod, own.Template.Spec, patch)
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return t.check(group)
}

// divideContainers divides the runner's and the daemon's container.
func (t *Template) divideContainers(pod *corev1.PodSpec, own corev1.PodSpec, patch func(string, map[string]string, any, any) map[string]any) {
	runner, daemon := container(own.Containers, jobfactory.RunnerContainer), container(own.InitContainers, jobfactory.DockerContainer)
	given := daemonOf(pod)
	for i := range pod.InitContainers {
		if c := &pod.InitContainers[i]; c != given {
			t.note("spec.template.spec.initContainers["+c.Name+"]", "a group's pod_template may add it")
		}
	}
	if given != nil {
		list := "containers"
		if !slices.ContainsFunc(pod.Containers, func(c corev1.Container) bool { return c.Name == given.Name }) {
			list = "initContainers"
		}
		t.divideDaemon("spec.template.spec."+list+"["+given.Name+"]", pod, given, *daemon, patch)
	}
	for i := range pod.Containers {
		c := &pod.Containers[i]
		at := "spec.template.spec.containers[" + c.Name + "]"
		switch {
		case c == given:
		case c.Name == jobfactory.RunnerContainer:
			t.filterMounts(at, pod, c, runner.VolumeMounts)
			t.filterEnv(at, c)
			t.runner = patch(at, containerFields, *c, nil)
		default:
			t.note(at, "the Job ends with its last container; a group's pod_template may add it as an init container with restartPolicy Always")
		}
	}
}

// divideDaemon divides the container of the Docker daemon.
func (t *Template) divideDaemon(at string, pod *corev1.PodSpec, c *corev1.Container, own corev1.Container, patch func(string, map[string]string, any, any) map[string]any) {
	t.filterMounts(at, pod, c, own.VolumeMounts)
	t.filterEnv(at, c)
	t.filterOptions(at, c)
	t.daemon = patch(at, containerFields, *c, own)
	if len(c.Env) > 0 {
		t.daemon["env"] = c.Env
	}
	if runner := container(pod.Containers, jobfactory.RunnerContainer); c.ImagePullPolicy != "" && c.ImagePullPolicy != runner.ImagePullPolicy {
		t.note(at+".imagePullPolicy", "a group has one image_pull_policy for both images, which is the runner's")
	}
}

// filterOptions takes the options of dockerd out of the daemon's command line. A command
// line of another program stays, so that a note is added for it.
func (t *Template) filterOptions(at string, c *corev1.Container) {
	words := slices.Concat(c.Command, c.Args)
	for len(words) > 0 && (strings.HasSuffix("/"+words[0], "/dockerd") || strings.HasSuffix("/"+words[0], "/dockerd-entrypoint.sh")) {
		words = words[1:]
	}
	if len(words) > 0 && !strings.HasPrefix(words[0], "-") {
		return
	}
	c.Command, c.Args = nil, nil
	t.dockerArgs = jobfactory.DaemonOptions(words, func(refused string) {
		t.note(at+".args["+refused+"]", "the Docker daemon only listens on unix:///var/run/docker.sock")
	})
}

// check reports what no group could be rendered with, so that it is not reported for
// each group.
func (t *Template) check(g jobfactory.RunnerGroup) error {
	t.SetDefaults(&g)
	t.AddPatch(&g)
	if err := jobfactory.JoinFaults(g.ManifestFaults()); err != nil {
		return fmt.Errorf("as a group's keys: %w", err)
	}
	return nil
}

// daemonOf returns the container of the Docker daemon, which may have any name and may be
// a native sidecar; nil if there is none.
func daemonOf(pod *corev1.PodSpec) *corev1.Container {
	for _, list := range [][]corev1.Container{pod.Containers, pod.InitContainers} {
		for i := range list {
			if list[i].Name != jobfactory.RunnerContainer && jobfactory.IsDaemon(list[i]) {
				return &list[i]
			}
		}
	}
	return nil
}

// filterMetadata drops the labels and annotations that the pods have anyway, and the
// architecture, which the group sets.
func (t *Template) filterMetadata(template *corev1.PodTemplateSpec, own corev1.PodTemplateSpec) {
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
	drop("metadata.labels", template.Labels, own.Labels, ", which selects the pods")
	drop("metadata.annotations", template.Annotations, own.Annotations, ", else an autoscaler evicts runners")
	drop("spec.nodeSelector", template.Spec.NodeSelector, map[string]string{corev1.LabelArchStable: ""}, "a group's architecture sets it")
}

// filterVolumes drops the volumes that the pod has anyway.
func (t *Template) filterVolumes(pod *corev1.PodSpec, own []corev1.Volume) {
	pod.Volumes = slices.DeleteFunc(pod.Volumes, func(v corev1.Volume) bool {
		owned := slices.ContainsFunc(own, func(o corev1.Volume) bool { return o.Name == v.Name })
		if owned && v.VolumeSource != (corev1.VolumeSource{}) && (v.EmptyDir == nil || *v.EmptyDir != corev1.EmptyDirVolumeSource{}) {
			t.note("spec.template.spec.volumes["+v.Name+"]", "the pod has an emptyDir of that name, which its containers share; a group's volumes may have another name")
		}
		return owned
	})
}

// filterMounts drops the mounts that the container has anyway, and those that overlap
// with one of them.
func (t *Template) filterMounts(at string, pod *corev1.PodSpec, c *corev1.Container, own []corev1.VolumeMount) {
	c.VolumeMounts = slices.DeleteFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool {
		path := at + ".volumeMounts[" + m.MountPath + "]"
		overlap := slices.IndexFunc(own, func(o corev1.VolumeMount) bool { return jobfactory.MountHides(o.MountPath, m.MountPath) })
		switch {
		case overlap >= 0 && own[overlap].Name == m.Name && jobfactory.ResolveMount(own[overlap].MountPath) == jobfactory.ResolveMount(m.MountPath) && m.SubPath+m.SubPathExpr == "":
			return true // the same mount
		case overlap >= 0:
			t.note(path, "the container has its own mount at "+own[overlap].MountPath)
		case !slices.ContainsFunc(pod.Volumes, func(v corev1.Volume) bool { return v.Name == m.Name }):
			t.note(path, "its volume is not carried over")
		default:
			own = append(own, m)
			return false
		}
		return true
	})
}

// sidecarValues are the values that the sidecar always sets for the runner.
var sidecarValues = map[string]string{"WORKING_DIRECTORY": "/tmp", "RUNTIME_PREREQUISITES_ENABLED": "true"}

// filterEnv drops the runner's identity and the address of another Docker daemon.
func (t *Template) filterEnv(at string, c *corev1.Container) {
	all := c.Env
	c.Env = nil
	for i, v := range all {
		path := fmt.Sprintf("%s.env[%s]", at, v.Name)
		switch {
		case slices.ContainsFunc(all[i+1:], func(later corev1.EnvVar) bool { return later.Name == v.Name }):
			t.note(path, "it is given twice, and the last one counts")
		case jobfactory.ReservedVariable(v.Name):
			if v.Value != sidecarValues[v.Name] || v.ValueFrom != nil {
				t.note(path, "the sidecar sets this variable")
			}
		case strings.HasPrefix(v.Name, "DOCKER_TLS_") || v.Name == "DOCKER_CERT_PATH" || v.Name == "DOCKER_HOST":
			if v.Value != "" && v.Value != "unix:///var/run/docker.sock" || v.ValueFrom != nil {
				t.note(path, "the Docker daemon only listens on unix:///var/run/docker.sock")
			}
		default:
			c.Env = append(c.Env, v)
		}
	}
}

// SetDefaults changes a group's defaults. It must be called before the group's own
// settings are read.
func (t *Template) SetDefaults(g *jobfactory.RunnerGroup) {
	pod := *t.job.Spec.Template.Spec.DeepCopy()
	g.NodeSelector, g.Tolerations, g.Affinity, g.PriorityClass = pod.NodeSelector, pod.Tolerations, pod.Affinity, pod.PriorityClassName
	for _, secret := range pod.ImagePullSecrets {
		g.PullSecrets = append(g.PullSecrets, secret.Name)
	}
	if pod.TerminationGracePeriodSeconds != nil {
		g.GracePeriod = time.Duration(*pod.TerminationGracePeriodSeconds) * time.Second
	}
	g.Volumes = pod.Volumes
	if c := container(pod.Containers, jobfactory.RunnerContainer); c != nil {
		carry(*c, &g.Images.Runner, &g.Resources)
		g.VolumeMounts, g.Env, g.PullPolicy = c.VolumeMounts, c.Env, c.ImagePullPolicy
	}
	if c := daemonOf(&pod); c != nil {
		carry(*c, &g.Images.Docker, &g.DockerResources)
		g.DockerVolumeMounts, g.DockerArgs = c.VolumeMounts, slices.Clone(t.dockerArgs)
	}
}

// carry replaces the image and the resources if the container sets them.
func carry(c corev1.Container, image *string, resources *corev1.ResourceRequirements) {
	if c.Image != "" {
		*image = c.Image
	}
	if len(c.Resources.Requests)+len(c.Resources.Limits)+len(c.Resources.Claims) > 0 {
		*resources = c.Resources
	}
}

// AddPatch adds the fields that have no key of a group as the group's first patch. It
// must be called once the group's Docker is known, and before its own pod_template
// is read.
func (t *Template) AddPatch(g *jobfactory.RunnerGroup) {
	spec := map[string]any{}
	maps.Copy(spec, t.pod)
	container := func(list, name string, fields map[string]any) {
		if len(fields) > 0 {
			patch := map[string]any{"name": name}
			maps.Copy(patch, fields)
			spec[list] = []any{patch}
		}
	}
	container("containers", jobfactory.RunnerContainer, t.runner)
	if g.Docker {
		container("initContainers", jobfactory.DockerContainer, t.daemon)
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
	if data, err := json.Marshal(patch); err == nil { // cannot fail, because it was read from JSON
		g.PodTemplates = append(g.PodTemplates, data)
	}
}
