package jobfactory

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/yaml"
)

// File is one file of manifests.
type File struct {
	// Path relative to the output directory, with slashes: namespace/file.yaml.
	Path string
	// Objects in the order in which they are applied.
	Objects []any
}

// Manifests returns the files for the groups: one file per namespace, with what its
// groups share, and after it one file per group. The error is the first group's
// that is invalid, with all of its faults.
func Manifests(groups []RunnerGroup) ([]File, error) {
	files := make([]File, 0, 2*len(groups))
	seen := map[string]bool{}
	for _, group := range groups {
		scaledJob, err := ScaledJob(group)
		if err != nil {
			return nil, err
		}
		if !seen[group.Namespace] {
			seen[group.Namespace] = true
			some := func(holds func(RunnerGroup) bool) bool {
				return slices.ContainsFunc(groups, func(other RunnerGroup) bool { return other.Namespace == group.Namespace && holds(other) })
			}
			secured := some(func(g RunnerGroup) bool { return g.TLS })
			files = append(files, File{Path: path.Join(group.Namespace, "namespace.yaml"), Objects: shared(group.Namespace, secured, some(mayBePrivileged))})
		}
		files = append(files, File{Path: path.Join(group.Namespace, "scaledjob-"+group.Name+".yaml"), Objects: []any{scaledJob}})
	}
	return files, nil
}

// mayBePrivileged reports whether a group's pods have the Docker daemon, or something of
// the user's that Pod Security's baseline may refuse.
func mayBePrivileged(g RunnerGroup) bool {
	return g.Group.OS != LinuxShell || len(g.PodTemplates) > 0 || slices.ContainsFunc(g.Volumes, func(v corev1.Volume) bool { return v.HostPath != nil })
}

// shared returns the objects that the runner groups of a namespace share. The
// namespace default exists already and must not be labelled. secured says whether
// any group uses TLS to the scaler, privileged whether pods may be privileged.
func shared(namespace string, secured, privileged bool) []any {
	account := &corev1.ServiceAccount{
		TypeMeta:                     metav1.TypeMeta{APIVersion: "v1", Kind: "ServiceAccount"},
		ObjectMeta:                   metav1.ObjectMeta{Name: ServiceAccount, Namespace: namespace, Labels: appLabels()},
		AutomountServiceAccountToken: ptr.To(false),
	}
	objects := []any{account}
	if secured {
		objects = append(objects, authentication(namespace))
	}
	if namespace == metav1.NamespaceDefault {
		return objects
	}
	labels := appLabels()
	labels["pod-security.kubernetes.io/enforce"] = "baseline"
	if privileged { // because the Docker daemon is
		labels["pod-security.kubernetes.io/enforce"] = "privileged"
	}
	return append([]any{&corev1.Namespace{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"},
		ObjectMeta: metav1.ObjectMeta{Name: namespace, Labels: labels},
	}}, objects...)
}

// Marshal returns objects as YAML documents with keys in a stable order, without
// status, nulls and empty objects.
func Marshal(objects ...any) ([]byte, error) {
	documents := make([][]byte, len(objects))
	for i, object := range objects {
		data, err := json.Marshal(object)
		if err != nil {
			return nil, fmt.Errorf("marshal %T: %w", object, err)
		}
		var fields map[string]any
		if err := json.Unmarshal(data, &fields); err != nil {
			return nil, fmt.Errorf("marshal %T: %w", object, err)
		}
		delete(fields, "status")
		// The empty object of an emptyDir has a meaning.
		prune(fields, "emptyDir")
		if documents[i], err = yaml.Marshal(fields); err != nil {
			return nil, fmt.Errorf("marshal %T: %w", object, err)
		}
	}
	return bytes.Join(documents, []byte("---\n")), nil
}

// prune removes nulls and empty objects, except for the value of the kept key.
func prune(value any, kept string) {
	switch v := value.(type) {
	case map[string]any:
		for key, field := range v {
			prune(field, kept)
			if object, ok := field.(map[string]any); field == nil || ok && len(object) == 0 && key != kept {
				delete(v, key)
			}
		}
	case []any:
		for _, item := range v {
			prune(item, kept)
		}
	}
}
