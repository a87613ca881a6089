package jobfactory

import (
	"encoding/json"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
)

// podTemplate returns the template of the group's pods with the patches merged into
// it. The faults are those of the patches: keys that Kubernetes does not have, and
// changes of what the scaler depends on.
func podTemplate(g RunnerGroup) (corev1.PodTemplateSpec, faults) {
	plain := corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{
			Labels:      appLabels(),
			Annotations: EvictionProtection(),
		},
		Spec: podSpec(g),
	}
	if len(g.PodTemplates) == 0 {
		return plain, nil
	}
	merged := plain
	for _, patch := range g.PodTemplates {
		var f faults
		if merged, f = applyPatch(merged, patch); len(f) > 0 {
			return corev1.PodTemplateSpec{}, f
		}
	}
	merged.Spec.InitContainers = sidecarFirst(merged.Spec.InitContainers)
	return merged, slices.Concat(comparePodTemplates(merged, plain), refusals(RunnerJob{OS: g.Group.OS, JobSpec: *jobSpec(merged)}))
}

// sidecarFirst moves the sidecar before the init containers that a patch adds, which a
// merge puts first: a container before the sidecar delays the registration.
func sidecarFirst(containers []corev1.Container) []corev1.Container {
	i := slices.IndexFunc(containers, func(c corev1.Container) bool { return c.Name == sidecarContainer })
	if i <= 0 {
		return containers
	}
	return slices.Concat(containers[i:i+1], containers[:i], containers[i+1:])
}

const patchPath = "pod_template"

// applyPatch merges one patch into a pod template.
func applyPatch(template corev1.PodTemplateSpec, patch json.RawMessage) (corev1.PodTemplateSpec, faults) {
	var fields map[string]any
	if err := json.Unmarshal(patch, &fields); err != nil {
		return template, faults{NewConfigError(patchPath, string(patch), "a mapping: "+err.Error())}
	}
	undirected, err := json.Marshal(withoutDirectives(fields))
	if err != nil {
		return template, faults{NewConfigError(patchPath, string(patch), "a mapping: "+err.Error())}
	}
	if f := DecodeStrict(undirected, patchPath, &corev1.PodTemplateSpec{}); len(f) > 0 {
		return template, f
	}
	original, err := json.Marshal(template)
	if err != nil {
		return template, faults{{Path: patchPath, Accepted: "cannot be merged: " + err.Error()}}
	}
	var result corev1.PodTemplateSpec
	merged, err := strategicpatch.StrategicMergePatch(original, patch, corev1.PodTemplateSpec{})
	if err == nil {
		err = json.Unmarshal(merged, &result)
	}
	if err != nil {
		return template, faults{{Path: patchPath, Accepted: "want a strategic merge patch: " + err.Error()}}
	}
	return result, nil
}

// withoutDirectives removes $patch and similar keys, which are not fields of any type.
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
