// Command schemas writes testdata/schemas: JSON Schemas of the kinds that the project
// installs, in the strict form in which an unknown field is a fault. They come from the
// OpenAPI document of each Kubernetes version and from the CustomResourceDefinitions of other
// projects, all out of Go modules. Run it as `go run ./schemas` in deploy/test when a kind or
// a version is added; the tests only read the files.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

type object = map[string]any

// kubernetes has the oldest and the newest version that is supported.
var kubernetes = map[string]string{"1.33": "k8s.io/kubernetes@v1.33.13", "1.36": "k8s.io/kubernetes@v1.36.4"}

// builtIn are the kinds of Kubernetes itself, by group and version.
var builtIn = map[string]string{
	"Namespace": "v1", "ServiceAccount": "v1", "Service": "v1", "Secret": "v1", "ConfigMap": "v1", "Pod": "v1",
	"Deployment": "apps/v1", "PodDisruptionBudget": "policy/v1", "NetworkPolicy": "networking.k8s.io/v1", "Ingress": "networking.k8s.io/v1",
	"Role": "rbac.authorization.k8s.io/v1", "RoleBinding": "rbac.authorization.k8s.io/v1",
	"ClusterRole": "rbac.authorization.k8s.io/v1", "ClusterRoleBinding": "rbac.authorization.k8s.io/v1",
	"ValidatingAdmissionPolicy": "admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicyBinding": "admissionregistration.k8s.io/v1",
}

// custom are files with CustomResourceDefinitions, by module.
var custom = map[string][]string{
	"github.com/kedacore/keda/v2@v2.21.0":          {"config/crd/bases/keda.sh_scaledjobs.yaml", "config/crd/bases/keda.sh_triggerauthentications.yaml"},
	"sigs.k8s.io/gateway-api@v1.5.1":               {"config/crd/standard/gateway.networking.k8s.io_httproutes.yaml"},
	"github.com/cert-manager/cert-manager@v1.21.2": {"deploy/crds/cert-manager.io_certificates.yaml"},
	"github.com/prometheus-operator/prometheus-operator@v0.85.0": {
		"example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml", "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
	},
}

func main() {
	if err := run(context.Background(), filepath.Join("testdata", "schemas")); err != nil {
		fmt.Fprintln(os.Stderr, "schemas:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, dir string) error {
	for version, module := range kubernetes {
		definitions, err := ofKubernetes(ctx, module)
		if err != nil {
			return err
		}
		if err := write(filepath.Join(dir, "kubernetes-"+version+".json"), definitions); err != nil {
			return err
		}
	}
	definitions := object{}
	for module, files := range custom {
		for _, file := range files {
			if err := addCustom(ctx, definitions, module, file); err != nil {
				return err
			}
		}
	}
	return write(filepath.Join(dir, "custom.json"), definitions)
}

// write writes the definitions, one per line.
func write(path string, definitions object) error {
	lines := make([]string, 0, len(definitions))
	for _, name := range slices.Sorted(maps.Keys(definitions)) {
		text, err := json.Marshal(definitions[name])
		if err != nil {
			return err
		}
		lines = append(lines, fmt.Sprintf("%q: %s", name, text))
	}
	return os.WriteFile(path, []byte("{\"definitions\": {\n"+strings.Join(lines, ",\n")+"\n}}\n"), 0o600)
}

// read reads a file of a module, in YAML or JSON.
func read(ctx context.Context, module, file string, into any) error {
	found, err := exec.CommandContext(ctx, "go", "mod", "download", "-json", module).Output()
	if err != nil {
		return fmt.Errorf("download %s: %w", module, err)
	}
	var downloaded struct{ Dir string }
	if err := json.Unmarshal(found, &downloaded); err != nil {
		return fmt.Errorf("download %s: %w", module, err)
	}
	text, err := os.ReadFile(filepath.Join(downloaded.Dir, file))
	if err != nil {
		return err
	}
	return yaml.Unmarshal(text, into)
}

// ofKubernetes returns the definitions of the kinds, and those that they refer to.
func ofKubernetes(ctx context.Context, module string) (object, error) {
	var document struct{ Definitions map[string]object }
	if err := read(ctx, module, "api/openapi-spec/swagger.json", &document); err != nil {
		return nil, err
	}
	definitions := object{}
	var take func(name string)
	take = func(name string) {
		if definitions[name] == nil {
			definitions[name] = object{} // it may refer to itself
			definitions[name] = strict(document.Definitions[name], take)
		}
	}
	definitions[quantity] = object{"anyOf": []any{object{"type": "number"}, object{"type": "string", "pattern": quantityPattern}}}
	definitions[intOrString] = object{"type": []any{"integer", "string"}}
	for name, definition := range document.Definitions {
		kinds, _ := definition["x-kubernetes-group-version-kind"].([]any)
		for _, kind := range kinds {
			kind := kind.(object)
			version := strings.TrimPrefix(fmt.Sprintf("%v/%v", kind["group"], kind["version"]), "/")
			if builtIn[kind["kind"].(string)] == version {
				take(name)
				definitions[key(version, kind["kind"])] = object{"$ref": reference + name}
			}
		}
	}
	return definitions, nil
}

const (
	reference   = "#/definitions/"
	quantity    = "io.k8s.apimachinery.pkg.api.resource.Quantity"
	intOrString = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"

	// quantityPattern is the one in CustomResourceDefinitions.
	quantityPattern = `^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$`
)

// key is the name of the definition of a kind.
func key(version string, kind any) string {
	return strings.ReplaceAll(version, "/", ".") + "." + kind.(string)
}

// addCustom adds the kind of a CustomResourceDefinition in the version that is stored.
func addCustom(ctx context.Context, definitions object, module, file string) error {
	var resource struct {
		Spec struct {
			Group    string
			Names    struct{ Kind string }
			Versions []struct {
				Name    string
				Storage bool
				Schema  struct{ OpenAPIV3Schema object }
			}
		}
	}
	if err := read(ctx, module, file, &resource); err != nil {
		return err
	}
	for _, version := range resource.Spec.Versions {
		if !version.Storage {
			continue
		}
		definition := strict(version.Schema.OpenAPIV3Schema, nil).(object)
		fields := definition["properties"].(object)
		fields["metadata"] = object{"type": "object"}
		delete(fields, "status")
		definitions[key(resource.Spec.Group+"/"+version.Name, resource.Spec.Names.Kind)] = definition
	}
	return nil
}

// strict returns a schema in which an object has no other fields than those that are
// described, and which has nothing but what is validated. It calls refers with each
// definition that the schema refers to.
func strict(schema any, refers func(string)) any {
	switch s := schema.(type) {
	case object:
		kept := object{}
		for name, value := range s {
			switch {
			case name == "properties" || name == "definitions":
				fields := object{}
				for field, of := range value.(object) {
					fields[field] = strict(of, refers)
				}
				kept[name] = fields
			case name == "$ref":
				kept[name] = value
				refers(strings.TrimPrefix(value.(string), reference))
			case name != "description" && name != "default" && name != "format" && !strings.HasPrefix(name, "x-kubernetes-"):
				kept[name] = strict(value, refers)
			}
		}
		open := kept["additionalProperties"] != nil || s["x-kubernetes-preserve-unknown-fields"] == true || s["x-kubernetes-embedded-resource"] == true
		if kept["properties"] != nil && kept["type"] == "object" && !open {
			kept["additionalProperties"] = false
		}
		return kept
	case []any:
		kept := make([]any, len(s))
		for i, item := range s {
			kept[i] = strict(item, refers)
		}
		return kept
	default:
		return schema
	}
}
