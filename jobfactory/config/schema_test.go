package config_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"bitbucket-runner-scaler/jobfactory/config"
)

func compiled(t *testing.T) *jsonschema.Schema {
	t.Helper()
	data, err := config.Schema()
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("runners_config.schema.json", document); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("runners_config.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// instance returns a file as an editor passes it to the schema.
func instance(t *testing.T, data []byte) any {
	t.Helper()
	var value any
	if err := yaml.Unmarshal(data, &value); err != nil {
		t.Fatal(err)
	}
	asJSON, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	decoded, err := jsonschema.UnmarshalJSON(bytes.NewReader(asJSON))
	if err != nil {
		t.Fatal(err)
	}
	return decoded
}

func TestTheCommittedSchemaIsCurrent(t *testing.T) {
	want, err := config.Schema()
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("runners_config.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("want -, got + (make generate):\n%s", diff)
	}
}

func TestTheSchemaAcceptsEveryConfiguration(t *testing.T) {
	schema := compiled(t)
	configs, err := filepath.Glob("testdata/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range append(configs, "../../deploy/examples/runners_config.yaml") {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		// As Atlassian prints it, the older form is not YAML.
		data = bytes.Replace(data, []byte("\n  constants:"), []byte("\nconstants:"), 1)
		if err := schema.Validate(instance(t, data)); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestTheReaderRefusesWhatTheSchemaRefuses(t *testing.T) {
	schema := compiled(t)
	for name, file := range map[string]string{
		"no groups":         "constants: {}\n",
		"empty groups":      "groups: []\n",
		"both lists":        good + older,
		"unknown key":       good + "  label: x\n",
		"unknown parameter": good + "  parameters: {minimum: 1}\n",
		"unknown constant":  good + "constants: {x: 1}\n",
		"missing keys":      "groups:\n- {}\n",
		"labels as text":    "groups:\n- {name: a, workspace: acme, labels: x}\n",
		"empty name":        "groups:\n- {name: '', workspace: acme, labels: [x]}\n",
		"strategy":          good + "  strategy: guess\n",
		"empty strategy":    good + "  strategy: ''\n",
		"empty credentials": good + "  credentials: ''\n",
		"type":              good + "  type: automatic\n",
		"os":                good + "  os: windows\n",
		"architecture":      good + "  architecture: riscv\n",
		"pull policy":       good + "  image_pull_policy: Sometimes\n",
		"docker":            good + "  docker: perhaps\n",
		"count in words":    good + "  parameters: {max: ten}\n",
		"share in words":    good + "  parameters: {scaleUpThreshold: half}\n",
		"duration":          good + "  polling_interval: often\n",
		"toleration":        good + "  tolerations: [{kye: b}]\n",
		"affinity":          good + "  affinity: {nodeAffinty: {}}\n",
		"variable":          good + "  env: [{name: A, valeu: x}]\n",
		"volume":            good + "  volumes: [{name: a, emptyDir: {sizeLimits: 1}}]\n",
		"mount":             good + "  volume_mounts: [{name: a, path: /a}]\n",
		"overlay as text":   good + "  pod_template: x\n",
		"overlay's key":     good + "  pod_template: {spec: {dnsPolice: Default}}\n",
		"overlay's type":    good + "  pod_template: {spec: {priority: high}}\n",
		"resources":         good + "  resources: {request: {}}\n",
		"images":            good + "  images: {dind: x}\n",
		"proxy":             good + "  proxy: {ftp: x}\n",
	} {
		t.Run(name, func(t *testing.T) {
			if err := schema.Validate(instance(t, []byte(file))); err == nil {
				t.Error("the schema accepts it")
			}
			if _, err := config.Read([]byte(file)); err == nil {
				t.Error("the reader accepts it")
			}
		})
	}
}

// A patch has keys that are no fields of a pod, and nulls that remove some.
func TestTheSchemaAcceptsPatches(t *testing.T) {
	file := []byte(good + `  pod_template:
    spec:
      hostname: null
      tolerations: [{operator: Exists}]
      $setElementOrder/initContainers: [{name: sidecar}, {name: docker}]
      volumes: [{name: a, $patch: delete}, {name: b, emptyDir: {}, $retainKeys: [name, emptyDir]}]
`)
	if err := compiled(t).Validate(instance(t, file)); err != nil {
		t.Errorf("the schema refuses it: %v", err)
	}
	if _, err := config.Read(file); err != nil {
		t.Errorf("the reader refuses it: %v", err)
	}
}
