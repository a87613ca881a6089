package jobfactory

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// JobTemplate is what a job template of Atlassian's runners-autoscaler changes,
// as far as it can be carried over: an overlay that each group's own settings
// are laid upon.
type JobTemplate struct {
	job batchv1.Job
	// Notes say, for each thing that is not carried over, why and what to do instead.
	Notes []string
}

var (
	// placeholder is what the autoscaler fills in for each runner.
	placeholder = regexp.MustCompile(`<%.*?%>|\{\{.*?\}\}|\{%.*?%\}`)
	filled      = "placeholder"
)

// ReadJobTemplate reads the autoscaler's job template: a Job, alone, among other
// documents or in a List, or inside the ConfigMap that holds it.
func ReadJobTemplate(data []byte) (*JobTemplate, error) {
	if len(data) > maxFile {
		return nil, fmt.Errorf("job template: %d bytes, want at most %d", len(data), maxFile)
	}
	template := &JobTemplate{}
	jobs, err := template.collect(placeholder.ReplaceAll(data, []byte(filled)), 0)
	if err != nil {
		return nil, err
	}
	if len(jobs) != 1 {
		return nil, fmt.Errorf("job template: %d Jobs, want one, alone, in a List or in a ConfigMap", len(jobs))
	}
	var f []*ConfigError
	if f = decodeFaults(jobs[0], "job", &template.job); len(f) > 0 {
		errs := make([]error, len(f))
		for i := range f {
			errs[i] = f[i]
		}
		return nil, fmt.Errorf("job template: %w", errors.Join(errs...))
	}
	if find(template.job.Spec.Template.Spec.Containers, runnerContainer, containerName) == nil {
		return nil, errors.New("job template: job.spec.template.spec.containers: want one named runner")
	}
	template.explain()
	return template, nil
}

// collect finds the Jobs of a stream of documents. depth counts wrappings.
func (t *JobTemplate) collect(data []byte, depth int) ([]json.RawMessage, error) {
	if depth > 3 {
		return nil, nil
	}
	var jobs []json.RawMessage
	decoder := yaml.NewYAMLOrJSONDecoder(strings.NewReader(string(data)), 4096)
	for {
		var document json.RawMessage
		if err := decoder.Decode(&document); errors.Is(err, io.EOF) {
			return jobs, nil
		} else if err != nil {
			return nil, fmt.Errorf("job template: not YAML: %w", err)
		}
		var object struct {
			Kind  string            `json:"kind"`
			Data  map[string]string `json:"data"`
			Items []json.RawMessage `json:"items"`
		}
		if err := json.Unmarshal(document, &object); err != nil {
			return nil, fmt.Errorf("job template: want Kubernetes objects: %w", err)
		}
		var inner [][]byte
		switch object.Kind {
		case "Job":
			jobs = append(jobs, document)
		case "List":
			for _, item := range object.Items {
				inner = append(inner, item)
			}
		case "ConfigMap":
			for _, name := range slices.Sorted(maps.Keys(object.Data)) {
				if text := object.Data[name]; strings.Contains(text, "kind: Job") {
					inner = append(inner, []byte(text))
				}
			}
		case "Secret":
			t.note("Secret", "a runner's OAuth secret goes from process to process and stands in no Secret")
		}
		for _, document := range inner {
			found, err := t.collect(document, depth+1)
			if err != nil {
				return nil, err
			}
			jobs = append(jobs, found...)
		}
	}
}

func (t *JobTemplate) note(path, instead string) {
	t.Notes = append(t.Notes, "job template: "+path+" is not carried over: "+instead)
}

// explain notes what the Job says and ours cannot.
func (t *JobTemplate) explain() {
	job, pod := t.job.Spec, t.job.Spec.Template.Spec
	if job.BackoffLimit != nil && *job.BackoffLimit != 0 {
		t.note("spec.backoffLimit", "a runner belongs to one pod; KEDA launches another Job")
	}
	if job.ActiveDeadlineSeconds != nil || pod.ActiveDeadlineSeconds != nil {
		t.note("activeDeadlineSeconds", "it would kill a busy runner; a group's max_age replaces idle ones")
	}
	if job.TTLSecondsAfterFinished != nil {
		t.note("spec.ttlSecondsAfterFinished", "KEDA keeps the last two finished Jobs and deletes the others")
	}
	if pod.RestartPolicy != "" && pod.RestartPolicy != corev1.RestartPolicyNever {
		t.note("spec.template.spec.restartPolicy", "Never; a runner's Job ends with its runner")
	}
	if pod.ServiceAccountName != "" && pod.ServiceAccountName != ServiceAccount {
		t.note("spec.template.spec.serviceAccountName", ServiceAccount+", which has no rights, so that builds have none")
	}
	for _, container := range pod.InitContainers {
		t.note("spec.template.spec.initContainers["+container.Name+"]", "a group's pod_template may add it")
	}
	for _, container := range pod.Containers {
		at := "spec.template.spec.containers[" + container.Name + "]"
		switch {
		case container.Name == runnerContainer || isDaemon(container):
			if len(container.Command) > 0 || len(container.Args) > 0 {
				t.note(at+".command and args", "sidecar exec starts the runner (a group's entrypoint says what), and dockerd listens on its socket alone")
			}
			if container.LivenessProbe != nil || container.ReadinessProbe != nil || container.StartupProbe != nil || container.Lifecycle != nil {
				t.note(at+"'s probes and lifecycle", "the pod has its own, by which runners are registered and drained")
			}
		default:
			t.note(at, "the Job ends with its last container; a group's pod_template may add it as an init container with restartPolicy Always")
		}
	}
}

// isDaemon says whether a container is the Docker daemon, whatever its name.
func isDaemon(c corev1.Container) bool {
	return c.SecurityContext != nil && c.SecurityContext.Privileged != nil && *c.SecurityContext.Privileged || strings.Contains(c.Image, "dind")
}

// apply lays what is carried over on a group's defaults, before its own settings.
func (t *JobTemplate) apply(g *RunnerGroup) {
	pod := *t.job.Spec.Template.Spec.DeepCopy()
	g.NodeSelector, g.Tolerations, g.Affinity, g.PriorityClass = pod.NodeSelector, pod.Tolerations, pod.Affinity, pod.PriorityClassName
	delete(g.NodeSelector, archLabel) // the group's architecture says it
	for _, secret := range pod.ImagePullSecrets {
		g.PullSecrets = append(g.PullSecrets, secret.Name)
	}
	for _, volume := range pod.Volumes {
		if !slices.Contains(ownVolumes, volume.Name) {
			g.Volumes = append(g.Volumes, volume)
		}
	}
	for _, c := range pod.Containers {
		switch {
		case c.Name == runnerContainer:
			carry(c, &g.Images.Runner, &g.Resources, &g.VolumeMounts)
			for _, v := range c.Env {
				if !slices.Contains(identity, v.Name) && !strings.HasPrefix(v.Name, "SIDECAR_") {
					g.Env = append(g.Env, v)
				}
			}
		case isDaemon(c):
			carry(c, &g.Images.Docker, &g.DockerResources, &g.DockerVolumeMounts)
		}
	}
	t.overlay(g)
}

// carry leaves out what holds a placeholder: the group says it.
func carry(c corev1.Container, image *string, resources *corev1.ResourceRequirements, mounts *[]corev1.VolumeMount) {
	if c.Image != "" && !strings.Contains(c.Image, filled) {
		*image = c.Image
	}
	if len(c.Resources.Requests)+len(c.Resources.Limits) > 0 {
		*resources = c.Resources
	}
	for _, mount := range c.VolumeMounts {
		if !slices.Contains(ownVolumes, mount.Name) {
			*mounts = append(*mounts, mount)
		}
	}
}

// overlay carries the rest: what the pod says that has no key of its own.
func (t *JobTemplate) overlay(g *RunnerGroup) {
	template := *t.job.Spec.Template.DeepCopy()
	meta := map[string]any{}
	for key, values := range map[string]map[string]string{"labels": template.Labels, "annotations": template.Annotations} {
		kept := map[string]string{}
		for name, value := range values {
			if !strings.Contains(value, filled) && !strings.HasPrefix(name, "app.kubernetes.io/") {
				kept[name] = value
			}
		}
		if len(kept) > 0 {
			meta[key] = kept
		}
	}
	pod := template.Spec
	if pod.TerminationGracePeriodSeconds != nil {
		g.GracePeriod = time.Duration(*pod.TerminationGracePeriodSeconds) * time.Second
	}
	rest := corev1.PodSpec{
		HostAliases: pod.HostAliases, DNSPolicy: pod.DNSPolicy, DNSConfig: pod.DNSConfig, SecurityContext: pod.SecurityContext,
		RuntimeClassName: pod.RuntimeClassName, SchedulerName: pod.SchedulerName, TopologySpreadConstraints: pod.TopologySpreadConstraints,
		HostNetwork: pod.HostNetwork,
	}
	spec := map[string]any{}
	data, err := json.Marshal(rest)
	if err == nil {
		err = json.Unmarshal(data, &spec)
	}
	if err != nil { // it was read from JSON
		return
	}
	delete(spec, "containers")
	patch := map[string]any{}
	if len(meta) > 0 {
		patch["metadata"] = meta
	}
	if len(spec) > 0 {
		patch["spec"] = spec
	}
	if data, err := json.Marshal(patch); err == nil && len(patch) > 0 {
		g.PodTemplates = append(g.PodTemplates, data)
	}
}
