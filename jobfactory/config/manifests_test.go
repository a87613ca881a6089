package config_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/yaml"

	"bitbucket-runner-scaler/jobfactory"
	"bitbucket-runner-scaler/jobfactory/config"
)

var update = flag.Bool("update", false, "write the golden files")

// render returns the manifests of a configuration file as one stream.
func render(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return renderData(t, data)
}

func renderData(t *testing.T, data []byte) []byte {
	t.Helper()
	content, err := config.Read(data)
	if err != nil {
		t.Fatalf("refused: %v\n%s", err, data)
	}
	files, err := jobfactory.Manifests(content.Groups)
	if err != nil {
		t.Fatalf("accepted, but not rendered: %v\n%s", err, data)
	}
	var objects []any
	for _, file := range files {
		objects = append(objects, file.Objects...)
	}
	manifests, err := jobfactory.Marshal(objects...)
	if err != nil {
		t.Fatal(err)
	}
	return manifests
}

func TestManifestsAreAsInTheGoldenFiles(t *testing.T) {
	configs, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(configs) == 0 {
		t.Fatalf("no configurations: %v", err)
	}
	for _, path := range configs {
		t.Run(filepath.Base(path), func(t *testing.T) {
			got := render(t, path)
			golden := strings.TrimSuffix(path, ".yaml") + ".golden"
			if *update {
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("want -, got + (go test ./jobfactory/config -update, if the change is intended):\n%s", diff)
			}
			if again := render(t, path); !bytes.Equal(got, again) {
				t.Error("rendered differently the second time")
			}
			for _, object := range decodeStrictly(t, got) {
				if job, ok := object.(*kedav1alpha1.ScaledJob); ok {
					// What KEDA's admission webhook checks.
					if _, err := job.ValidateCreate(ptr.To(true)); err != nil {
						t.Errorf("%s: KEDA refuses it: %v", job.Name, err)
					}
				}
			}
		})
	}
}

// decodeStrictly decodes each document into its API type. An unknown field is an error.
func decodeStrictly(t *testing.T, data []byte) []any {
	t.Helper()
	var objects []any
	for document := range bytes.SplitSeq(data, []byte("\n---\n")) {
		var kind struct {
			Kind string `json:"kind"`
		}
		if err := yaml.Unmarshal(document, &kind); err != nil {
			t.Fatal(err)
		}
		object, ok := map[string]any{
			"ScaledJob": &kedav1alpha1.ScaledJob{}, "TriggerAuthentication": &kedav1alpha1.TriggerAuthentication{}, "Namespace": &corev1.Namespace{}, "ServiceAccount": &corev1.ServiceAccount{},
			"Service": &corev1.Service{}, "Deployment": &appsv1.Deployment{},
			"ClusterRole": &rbacv1.ClusterRole{}, "ClusterRoleBinding": &rbacv1.ClusterRoleBinding{},
			"Role": &rbacv1.Role{}, "RoleBinding": &rbacv1.RoleBinding{}, "PodDisruptionBudget": &policyv1.PodDisruptionBudget{},
			"ValidatingAdmissionPolicy": &admissionv1.ValidatingAdmissionPolicy{}, "ValidatingAdmissionPolicyBinding": &admissionv1.ValidatingAdmissionPolicyBinding{},
			"Kustomization": &kustomization{},
		}[kind.Kind]
		if !ok {
			t.Fatalf("this test does not know the kind %q", kind.Kind)
		}
		if err := yaml.UnmarshalStrict(document, object); err != nil {
			t.Errorf("%s: %v", kind.Kind, err)
		}
		objects = append(objects, object)
	}
	return objects
}

// kustomization has the fields that deploy/ uses.
type kustomization struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Resources  []string `json:"resources"`
	Images     []struct {
		Name    string `json:"name"`
		NewName string `json:"newName"`
		NewTag  string `json:"newTag"`
	} `json:"images"`
	Configurations []string         `json:"configurations"`
	Vars           []map[string]any `json:"vars"`
}
