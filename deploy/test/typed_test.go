package deploytest

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// versions are the oldest and the newest Kubernetes that is supported. Command schemas writes
// the schemas.
var versions = []string{"1.33", "1.36"}

// schemas compiles the schema of a kind of a Kubernetes version, once.
var schemas = struct {
	sync.Mutex
	compilers map[string]*jsonschema.Compiler
}{compilers: map[string]*jsonschema.Compiler{}}

// schemaOf returns the schema of an object in a version of Kubernetes. A kind that the project
// does not use has none, which is an error.
func schemaOf(version string, fields object) (*jsonschema.Schema, error) {
	schemas.Lock()
	defer schemas.Unlock()
	compiler := schemas.compilers[version]
	if compiler == nil {
		compiler = jsonschema.NewCompiler()
		compiler.DefaultDraft(jsonschema.Draft7)
		for _, file := range []string{"kubernetes-" + version, "custom"} {
			text, err := os.Open(filepath.Join("testdata", "schemas", file+".json"))
			if err != nil {
				return nil, err
			}
			document, err := jsonschema.UnmarshalJSON(text)
			if err := text.Close(); err != nil {
				return nil, err
			}
			if err != nil {
				return nil, err
			}
			if err := compiler.AddResource("mem:///"+strings.TrimSuffix(file, "-"+version), document); err != nil {
				return nil, err
			}
		}
		schemas.compilers[version] = compiler
	}
	name := fmt.Sprintf("%s.%s", strings.ReplaceAll(fmt.Sprint(fields["apiVersion"]), "/", "."), fields["kind"])
	schema, err := compiler.Compile("mem:///kubernetes#/definitions/" + name)
	if err != nil {
		schema, err = compiler.Compile("mem:///custom#/definitions/" + name)
	}
	return schema, err
}

// typed holds each object against the schema of its kind in each version of Kubernetes, as
// kubeconform does, so that a field that Kubernetes does not know is found without a cluster.
func typed(t *testing.T, all objects) {
	t.Helper()
	for key, fields := range all {
		text, err := json.Marshal(fields)
		if err != nil {
			t.Fatal(err)
		}
		instance, err := jsonschema.UnmarshalJSON(strings.NewReader(string(text)))
		if err != nil {
			t.Fatal(err)
		}
		for _, version := range versions {
			schema, err := schemaOf(version, fields)
			if err != nil {
				t.Fatalf("%s: Kubernetes %s: %v", key, version, err)
			}
			if err := schema.Validate(instance); err != nil {
				t.Errorf("%s: Kubernetes %s: %v", key, version, err)
			}
		}
	}
}

func TestEveryFieldIsOneThatKubernetesKnows(t *testing.T) {
	installations := everyInstallation(t)
	installations["examples"] = kustomized(t, "examples")
	for installation, all := range installations {
		t.Run(installation, func(t *testing.T) { typed(t, all) })
	}
	all, _, err := charted(controlPlane, parsed(t, everything))
	if err != nil {
		t.Fatal(err)
	}
	t.Run("everything of the chart", func(t *testing.T) { typed(t, all) })
}

func TestAFieldThatKubernetesDoesNotKnowIsFound(t *testing.T) {
	for name, text := range map[string]string{
		"an unknown field":         "{apiVersion: v1, kind: Service, metadata: {name: x}, spec: {selectors: {}}}",
		"an unknown field below":   "{apiVersion: apps/v1, kind: Deployment, metadata: {name: x}, spec: {selector: {}, template: {spec: {containers: [{name: x, imagePolicy: Never}]}}}}",
		"a field that is missing":  "{apiVersion: apps/v1, kind: Deployment, metadata: {name: x}, spec: {selector: {}}}",
		"text for a number":        "{apiVersion: apps/v1, kind: Deployment, metadata: {name: x}, spec: {replicas: two, selector: {}, template: {}}}",
		"a wrong quantity":         "{apiVersion: v1, kind: Pod, metadata: {name: x}, spec: {containers: [{name: x, resources: {limits: {memory: 1 GB}}}]}}",
		"an unknown field of KEDA": "{apiVersion: keda.sh/v1alpha1, kind: ScaledJob, metadata: {name: x}, spec: {jobTargetRef: {template: {}}, triggers: [], maxReplicas: 2}}",
		"a wrong path type":        "{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: x}, spec: {rules: [{matches: [{path: {type: Whole}}]}]}}",
	} {
		t.Run(name, func(t *testing.T) {
			fields := parsed(t, text)
			schema, err := schemaOf("1.33", fields)
			if err != nil {
				t.Fatal(err)
			}
			if err := schema.Validate(fields); err == nil {
				t.Error("it is not found")
			}
		})
	}
	if _, err := schemaOf("1.33", object{"apiVersion": "v1", "kind": "Secrets"}); err == nil {
		t.Error("a kind that there is not is taken")
	}
}
