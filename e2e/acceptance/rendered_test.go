package acceptance

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"bitbucket-runner-scaler/jobfactory"
	"bitbucket-runner-scaler/jobfactory/config"
	"bitbucket-runner-scaler/jobfactory/config/configtest"
)

// generated is how many generated files are tested. The tests of jobfactory test invalid
// files.
const generated = 250

// rendered returns the manifests of a configuration file.
func rendered(t *testing.T, name string, file []byte) []*unstructured.Unstructured {
	t.Helper()
	content, err := config.Read(file)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	files, err := jobfactory.Manifests(content.Groups)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	var objects []*unstructured.Unstructured
	for _, file := range files {
		for _, object := range file.Objects {
			text, err := yaml.Marshal(object)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			one := &unstructured.Unstructured{}
			if err := yaml.Unmarshal(text, &one.Object); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			objects = append(objects, one)
		}
	}
	return objects
}

// apart moves a file's objects to namespaces of its own: files give the same namespace
// different levels of Pod Security.
func apart(objects []*unstructured.Unstructured, number int) []*unstructured.Unstructured {
	moved := map[string]string{metav1.NamespaceDefault: metav1.NamespaceDefault}
	to := func(namespace string) string {
		if moved[namespace] == "" {
			moved[namespace] = fmt.Sprintf("file-%d-%d", number, len(moved))
		}
		return moved[namespace]
	}
	for _, object := range objects {
		if object.GetKind() == "Namespace" {
			object.SetName(to(object.GetName()))
		} else {
			object.SetNamespace(to(object.GetNamespace()))
		}
	}
	return objects
}

// accepted checks that the API server accepts all objects. It creates namespaces and
// accounts, which the others need. The others, the Job that KEDA would create for a
// ScaledJob and the Job's pod are created in a dry run.
func accepted(ctx context.Context, objects []*unstructured.Unstructured) error {
	var errs []error
	for _, object := range objects {
		switch object.GetKind() {
		case "Namespace", "ServiceAccount":
			errs = append(errs, create(ctx, object, false))
			continue
		case "ScaledJob":
			errs = append(errs, jobOf(ctx, object))
		}
		errs = append(errs, create(ctx, object, true))
	}
	return errors.Join(errs...)
}

// jobOf creates the Job of a ScaledJob, and its pod.
func jobOf(ctx context.Context, scaledJob *unstructured.Unstructured) error {
	spec, _, err := unstructured.NestedMap(scaledJob.Object, "spec", "jobTargetRef")
	if err != nil {
		return err
	}
	template, _, err := unstructured.NestedMap(spec, "template")
	if err != nil {
		return err
	}
	named := func(apiVersion, kind string, fields map[string]any) *unstructured.Unstructured {
		object := &unstructured.Unstructured{Object: fields}
		object.SetAPIVersion(apiVersion)
		object.SetKind(kind)
		object.SetName(scaledJob.GetName() + "-any")
		object.SetNamespace(scaledJob.GetNamespace())
		return object
	}
	pod := named("v1", "Pod", template)
	if err := classesOf(ctx, pod); err != nil {
		return err
	}
	job := named("batch/v1", "Job", map[string]any{"spec": runtime.DeepCopyJSON(spec)})
	// The Job controller sets it.
	_ = unstructured.SetNestedField(pod.Object, "Never", "spec", "restartPolicy")
	return errors.Join(create(ctx, job, true), create(ctx, pod, true))
}

// classesOf creates the priority and runtime classes that a pod names, which belong to the
// user.
func classesOf(ctx context.Context, pod *unstructured.Unstructured) error {
	priority, _, _ := unstructured.NestedString(pod.Object, "spec", "priorityClassName")
	if priority != "" && !strings.HasPrefix(priority, "system-") {
		_, err := shared.client.SchedulingV1().PriorityClasses().Create(ctx, &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: priority}, Value: 1}, metav1.CreateOptions{})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return err
		}
	}
	class, _, _ := unstructured.NestedString(pod.Object, "spec", "runtimeClassName")
	if class != "" {
		_, err := shared.client.NodeV1().RuntimeClasses().Create(ctx, &nodev1.RuntimeClass{ObjectMeta: metav1.ObjectMeta{Name: class}, Handler: "any"}, metav1.CreateOptions{})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return err
		}
	}
	return nil
}

func TestRenderedManifestsAreAccepted(t *testing.T) {
	files := map[string][]*unstructured.Unstructured{}
	examples, err := filepath.Glob(filepath.Join(shared.root, "jobfactory", "config", "testdata", "*.yaml"))
	if err != nil || len(examples) < 5 {
		t.Fatalf("examples: %q, %v", examples, err)
	}
	for _, example := range examples {
		text, err := os.ReadFile(example)
		if err != nil {
			t.Fatal(err)
		}
		files[filepath.Base(example)] = rendered(t, example, text)
	}
	for seed := range uint64(generated) {
		file := configtest.Good(seed)
		name := "generated:\n" + string(file.YAML)
		files[name] = rendered(t, name, file.YAML)
	}
	shared.warnings.take()
	var group errgroup.Group
	group.SetLimit(8)
	for number, name := range slices.Sorted(maps.Keys(files)) {
		group.Go(func() error {
			if err := accepted(t.Context(), apart(files[name], number)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			return nil
		})
	}
	_ = group.Wait()
	for _, warning := range shared.warnings.take() {
		t.Errorf("the API server warns: %s", warning)
	}
}

// secretsOf creates the user's Secrets that contain the runner's variables. KEDA resolves
// them before it calls the scaler.
func secretsOf(t *testing.T, scaledJob *unstructured.Unstructured) {
	t.Helper()
	containers, _, err := unstructured.NestedSlice(scaledJob.Object, "spec", "jobTargetRef", "template", "spec", "containers")
	if err != nil {
		t.Fatal(err)
	}
	for _, container := range containers {
		fields, _ := container.(map[string]any)
		variables, _, _ := unstructured.NestedSlice(fields, "env")
		for _, variable := range variables {
			from, _ := variable.(map[string]any)
			name, _, _ := unstructured.NestedString(from, "valueFrom", "secretKeyRef", "name")
			key, _, _ := unstructured.NestedString(from, "valueFrom", "secretKeyRef", "key")
			if name == "" {
				continue
			}
			secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, StringData: map[string]string{key: "any"}}
			if _, err := shared.client.CoreV1().Secrets(scaledJob.GetNamespace()).Create(t.Context(), secret, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
				t.Fatal(err)
			}
		}
	}
}

// KEDA's operator checks a ScaledJob and reports the result in its status.
func TestKEDAAcceptsRenderedScaledJobs(t *testing.T) {
	examples, err := filepath.Glob(filepath.Join(shared.root, "jobfactory", "config", "testdata", "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, example := range examples {
		text, err := os.ReadFile(example)
		if err != nil {
			t.Fatal(err)
		}
		for _, object := range rendered(t, example, text) {
			if err := create(t.Context(), object, false); err != nil {
				t.Fatalf("%s: %v", example, err)
			}
			if object.GetKind() != "ScaledJob" {
				continue
			}
			secretsOf(t, object)
			name := object.GetNamespace() + "/" + object.GetName()
			at, err := resource(object.GroupVersionKind(), object.GetNamespace())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := at.Delete(context.WithoutCancel(t.Context()), object.GetName(), metav1.DeleteOptions{}); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			})
			until(t, name+" to be taken up", func() (bool, string) {
				events, err := shared.client.CoreV1().Events(object.GetNamespace()).List(t.Context(), metav1.ListOptions{FieldSelector: "involvedObject.name=" + object.GetName()})
				if err != nil {
					return false, err.Error()
				}
				seen := ""
				for _, event := range events.Items {
					seen += event.Reason + ": " + event.Message + "\n"
					if event.Reason == "ScaledJobReady" {
						return true, ""
					}
				}
				return false, seen
			})
		}
	}
}
