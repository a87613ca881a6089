package deploytest

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

const (
	controlPlane = "bitbucket-runner-scaler"
	runners      = "bitbucket-runner"
	name         = "bitbucket-runner-scaler"
	chartDir     = "../chart"
)

// object is a manifest as it is applied.
type object = map[string]any

// objects are keyed by kind, namespace and name.
type objects map[string]object

// add takes YAML documents in. A second object of a key is an error: one would
// silently replace the other as they are applied.
func (o objects) add(text []byte) error {
	for document := range strings.SplitSeq("\n"+string(text), "\n---") {
		var fields object
		if err := yaml.Unmarshal([]byte(document), &fields); err != nil {
			return fmt.Errorf("%w in\n%s", err, document)
		}
		if len(fields) == 0 {
			continue
		}
		meta, ok := fields["metadata"].(object)
		if !ok {
			return fmt.Errorf("no metadata in\n%s", document)
		}
		namespace, _ := meta["namespace"].(string)
		key := fmt.Sprintf("%v %s/%v", fields["kind"], namespace, meta["name"])
		if _, twice := o[key]; twice {
			return fmt.Errorf("%s is there twice", key)
		}
		o[key] = fields
	}
	return nil
}

// kustomized renders a kustomization of deploy/, as `kubectl apply -k` does.
func kustomized(t *testing.T, dir string) objects {
	t.Helper()
	rendered, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), filepath.Join("..", dir))
	if err != nil {
		t.Fatalf("%s: %v", dir, err)
	}
	text, err := rendered.AsYaml()
	if err != nil {
		t.Fatalf("%s: %v", dir, err)
	}
	found := objects{}
	if err := found.add(text); err != nil {
		t.Fatalf("%s: %v", dir, err)
	}
	return found
}

// capabilities are those of a cluster with ValidatingAdmissionPolicy.
var capabilities = &chartutil.Capabilities{KubeVersion: chartutil.KubeVersion{Version: "v1.30.0", Major: "1", Minor: "30"}, APIVersions: chartutil.DefaultVersionSet}

// charted renders the chart as `helm template` does, as the release with the usual name.
// The error is that of bad values.
func charted(namespace string, values object) (found objects, notes string, err error) {
	return released(name, namespace, values)
}

// released renders the chart as a release of that name. Without an image in the values, it
// is that of the overlays.
func released(release, namespace string, values object) (found objects, notes string, err error) {
	loaded, err := loader.Load(chartDir)
	if err != nil {
		return nil, "", err
	}
	given := object{"image": object{"repository": name}}
	maps.Copy(given, values)
	return rendered(loaded, chartutil.ReleaseOptions{Name: release, Namespace: namespace, IsInstall: true, Revision: 1}, given)
}

func rendered(loaded *chart.Chart, release chartutil.ReleaseOptions, values object) (found objects, notes string, err error) {
	// With Strict a value that is misspelt in a template is an error, not empty.
	return renderedBy(engine.Engine{Strict: true}, loaded, release, values)
}

func renderedBy(helm engine.Engine, loaded *chart.Chart, release chartutil.ReleaseOptions, values object) (found objects, notes string, err error) {
	all, err := chartutil.ToRenderValues(loaded, values, release, capabilities)
	if err != nil {
		return nil, "", err
	}
	files, err := helm.Render(loaded, all)
	if err != nil {
		return nil, "", err
	}
	found = objects{}
	for _, path := range slices.Sorted(maps.Keys(files)) {
		if strings.HasSuffix(path, "NOTES.txt") {
			notes = files[path]
			continue
		}
		if err := found.add([]byte(files[path])); err != nil {
			return nil, "", fmt.Errorf("%s: %w", path, err)
		}
	}
	return found, notes, nil
}

// chartedFor renders the chart with the values that are to give an overlay.
func chartedFor(t *testing.T, overlay string) objects {
	t.Helper()
	found, _, err := charted(controlPlane, valuesIn(t, filepath.Join(chartDir, "ci", overlay+".yaml")))
	if err != nil {
		t.Fatalf("chart for %s: %v", overlay, err)
	}
	return found
}

func valuesIn(t *testing.T, path string) object {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return parsed(t, string(text))
}

func parsed(t *testing.T, text string) object {
	t.Helper()
	var values object
	if err := yaml.UnmarshalStrict([]byte(text), &values); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	return values
}

// overlays are the folders of deploy/overlays.
func overlays(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir("../overlays")
	if err != nil || len(entries) == 0 {
		t.Fatalf("overlays: %v, %v", entries, err)
	}
	names := make([]string, len(entries))
	for i, entry := range entries {
		names[i] = entry.Name()
	}
	return names
}

// everyInstallation is each way to install the control plane: base, overlays, and
// the chart for each.
func everyInstallation(t *testing.T) map[string]objects {
	t.Helper()
	all := map[string]objects{"base": kustomized(t, "base"), "chart for base": chartedFor(t, "base")}
	for _, overlay := range overlays(t) {
		all[overlay] = kustomized(t, "overlays/"+overlay)
		all["chart for "+overlay] = chartedFor(t, overlay)
	}
	return all
}

// as reads an object into its type; a field that the type does not have is an error.
func as[T any](t *testing.T, from objects, key string) *T {
	t.Helper()
	fields, ok := from[key]
	if !ok {
		t.Fatalf("no %s among %q", key, slices.Sorted(maps.Keys(from)))
	}
	return into[T](t, fields)
}

func into[T any](t *testing.T, fields object) *T {
	t.Helper()
	typed := new(T)
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(fields, typed, true); err != nil {
		t.Fatalf("%v: %v", fields["kind"], err)
	}
	return typed
}
