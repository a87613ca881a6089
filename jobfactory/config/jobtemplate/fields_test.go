package jobtemplate_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"

	"bitbucket-runner-scaler/jobfactory"
	"bitbucket-runner-scaler/jobfactory/config"
	"bitbucket-runner-scaler/jobfactory/config/jobtemplate"
)

var update = flag.Bool("update", false, "write the golden file")

func TestAJobTemplateIsCarriedOverAsInTheGoldenFile(t *testing.T) {
	const golden = "testdata/cm-job-template.golden"
	data, err := os.ReadFile("testdata/cm-job-template.yaml")
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile("../testdata/incumbent.yaml")
	if err != nil {
		t.Fatal(err)
	}
	render := func() []byte {
		template, err := jobtemplate.Read(data)
		if err != nil {
			t.Fatal(err)
		}
		content, err := config.ReadWithTemplate(file, template)
		if err != nil {
			t.Fatal(err)
		}
		rendered, err := jobfactory.Marshal(scaledJob(t, content.Groups[0]))
		if err != nil {
			t.Fatal(err)
		}
		return append([]byte("# "+strings.Join(content.Notes, "\n# ")+"\n"), rendered...)
	}
	got := render()
	if again := render(); !bytes.Equal(got, again) {
		t.Error("carried over differently the second time")
	}
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
		t.Errorf("want -, got + (go test ./jobfactory/config/jobtemplate -update, if the change is intended):\n%s", diff)
	}
	if err := yaml.UnmarshalStrict(got, &kedav1alpha1.ScaledJob{}); err != nil {
		t.Error(err)
	}
}

// values has values for the fields that do not accept any value.
var values = map[string]string{
	"containers":                    `[{"name": "runner"}, {"name": "second", "image": "x"}]`,
	"containers.name":               `"runner"`,
	"containers.image":              `"registry/runner:7"`,
	"containers.imagePullPolicy":    `"Always"`,
	"containers.volumeMounts":       `[{"name": "cache", "mountPath": "/x"}]`,
	"volumes":                       `[{"name": "x", "emptyDir": {"sizeLimit": "1"}}]`,
	"tolerations":                   `[{"key": "x", "operator": "Equal", "value": "x", "effect": "NoExecute"}]`,
	"terminationGracePeriodSeconds": `77`,
	"template":                      `{"metadata": {"labels": {"x": "x"}}}`,
}

// filled returns a value of the type with every field set. A type inside itself is
// filled once.
func filled(of reflect.Type, within map[reflect.Type]bool) reflect.Value {
	value := reflect.New(of).Elem()
	switch of {
	case reflect.TypeFor[resource.Quantity]():
		return reflect.ValueOf(resource.MustParse("1"))
	case reflect.TypeFor[intstr.IntOrString]():
		return reflect.ValueOf(intstr.FromInt32(3))
	case reflect.TypeFor[metav1.Time]():
		return value
	}
	switch of.Kind() {
	case reflect.String:
		value.SetString("x")
	case reflect.Bool:
		value.SetBool(true)
	case reflect.Int, reflect.Int32, reflect.Int64:
		value.SetInt(3)
	case reflect.Pointer:
		value.Set(reflect.New(of.Elem()))
		value.Elem().Set(filled(of.Elem(), within))
	case reflect.Slice:
		value.Set(reflect.Append(value, filled(of.Elem(), within)))
	case reflect.Map:
		value.Set(reflect.MakeMap(of))
		value.SetMapIndex(filled(of.Key(), within), filled(of.Elem(), within))
	case reflect.Struct:
		if within[of] {
			return value
		}
		within[of] = true
		defer delete(within, of)
		for i := range of.NumField() {
			value.Field(i).Set(filled(of.Field(i).Type, within))
		}
	}
	return value
}

// jsonFields calls f with each field of a Kubernetes type and a value for it.
func jsonFields(t *testing.T, of reflect.Type, prefix string, f func(name, value string)) {
	t.Helper()
	for i := range of.NumField() {
		field := of.Field(i)
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		value, ok := values[prefix+name]
		if !ok {
			data, err := json.Marshal(filled(field.Type, map[reflect.Type]bool{}).Interface())
			if err != nil {
				t.Fatal(err)
			}
			value = string(data)
		}
		f(name, value)
	}
}

// carried reports whether every part of a value was rendered.
func carried(want, got any) bool {
	switch want := want.(type) {
	case map[string]any:
		got, ok := got.(map[string]any)
		for key, value := range want {
			if object, empty := value.(map[string]any); empty && len(object) == 0 || value == nil {
				continue // not rendered
			}
			ok = ok && carried(value, got[key])
		}
		return ok
	case []any:
		got, ok := got.([]any)
		for _, item := range want {
			found := false
			for _, other := range got {
				found = found || carried(item, other)
			}
			ok = ok && found
		}
		return ok
	}
	return cmp.Equal(want, got)
}

// checkField checks that one field of a job is either carried over or noted.
func checkField(t *testing.T, job, path, name, value string, rendered func(batchv1.JobSpec) any) {
	t.Helper()
	file := `{"kind": "Job", ` + strings.TrimPrefix(job, "{")
	template, err := jobtemplate.Read([]byte(file))
	if err != nil {
		t.Fatalf("%v\n%s", err, file)
	}
	content, err := config.ReadWithTemplate([]byte(good), template)
	if err != nil {
		t.Fatalf("%v\n%s", err, file)
	}
	notes := strings.Join(content.Notes, "\n")
	noted := strings.Contains(notes, path+name+" is not carried over: ") || strings.Contains(notes, path+name+"[")
	data, err := json.Marshal(rendered(*scaledJob(t, content.Groups[0]).Spec.JobTargetRef))
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	var want any
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(value), &want); err != nil {
		t.Fatal(err)
	}
	if !noted && !carried(want, got[name]) {
		t.Errorf("neither carried over nor noted: %s\nrendered: %s\nnotes: %s", value, data, notes)
	}
	if noted && name != "containers" && carried(want, got[name]) {
		t.Errorf("carried over, but noted as not carried over: %s\nnotes: %s", value, notes)
	}
}

// Each field of Kubernetes' types, also of later versions, is carried over or noted.
func TestNoFieldOfAJobTemplateIsDroppedWithoutANote(t *testing.T) {
	const pod = `"volumes": [{"name": "cache", "emptyDir": {}}]`
	for place, test := range map[string]struct {
		of     reflect.Type
		prefix string
		// job has the field at %s, path is the field's path in the notes.
		job, path string
		// rendered returns the object that should have the field.
		rendered func(batchv1.JobSpec) any
	}{
		"Job": {reflect.TypeFor[batchv1.JobSpec](), "", `{"spec": {"template": {"spec": {"containers": [{"name": "runner"}]}}, %s}}`, "spec.",
			func(s batchv1.JobSpec) any { return s }},
		"pod": {reflect.TypeFor[corev1.PodSpec](), "", `{"spec": {"template": {"spec": {"containers": [{"name": "runner"}], %s}}}}`, "spec.template.spec.",
			func(s batchv1.JobSpec) any { return s.Template.Spec }},
		"runner": {reflect.TypeFor[corev1.Container](), "containers.", `{"spec": {"template": {"spec": {` + pod + `, "containers": [{"name": "runner", %s}]}}}}`, "spec.template.spec.containers[runner].",
			func(s batchv1.JobSpec) any { return s.Template.Spec.Containers[0] }},
		"daemon": {reflect.TypeFor[corev1.Container](), "containers.", `{"spec": {"template": {"spec": {` + pod + `, "containers": [{"name": "runner"}, {"name": "dind", "image": "dind", %s}]}}}}`, "spec.template.spec.containers[dind].",
			func(s batchv1.JobSpec) any { return s.Template.Spec.InitContainers[1] }},
	} {
		fields := 0
		jsonFields(t, test.of, test.prefix, func(name, value string) {
			if place == "daemon" && name == "name" || place == "Job" && name == "template" {
				return
			}
			if place == "daemon" && name == "image" {
				value = `"docker:dind-rootless"`
			}
			if place == "daemon" && name == "securityContext" {
				value = `{"privileged": true, "procMount": "Unmasked"}`
			}
			fields++
			t.Run(place+"/"+name, func(t *testing.T) {
				checkField(t, fmt.Sprintf(test.job, fmt.Sprintf("%q: %s", name, value)), test.path, name, value, test.rendered)
			})
		})
		if fields < 15 {
			t.Errorf("%s: only %d fields checked", place, fields)
		}
	}
}
