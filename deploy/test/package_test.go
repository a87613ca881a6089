package deploytest

import (
	"bytes"
	"encoding/base64"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/Masterminds/semver/v3"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	"sigs.k8s.io/yaml"
)

// linted returns what `helm lint --strict` would fail for.
func linted(t *testing.T, values object) []support.Message {
	t.Helper()
	version := chartutil.KubeVersion{Version: "v1.36.0", Major: "1", Minor: "36"}
	result := lint.AllWithKubeVersion(chartDir, values, controlPlane, &version)
	return slices.DeleteFunc(result.Messages, func(m support.Message) bool { return m.Severity < support.WarningSev })
}

func TestHelmLintFindsNothing(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(chartDir, "ci", "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no values: %v", err)
	}
	for _, message := range linted(t, object{}) {
		t.Errorf("without values: %v", message)
	}
	for _, file := range files {
		for _, message := range linted(t, valuesIn(t, file)) {
			t.Errorf("%s: %v", file, message)
		}
	}
}

// TestTheChartCanBeListed checks what `ct lint` and Artifact Hub want of Chart.yaml.
func TestTheChartCanBeListed(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(chartDir, "Chart.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var meta chart.Metadata
	if err := yaml.UnmarshalStrict(text, &meta); err != nil {
		t.Fatal(err)
	}
	if err := meta.Validate(); err != nil {
		t.Error(err)
	}
	if version, err := semver.StrictNewVersion(meta.Version); err != nil {
		t.Errorf("version %s: %v", version, err)
	}
	for _, address := range append([]string{meta.Home}, meta.Sources...) {
		if parsed, err := url.Parse(address); err != nil || parsed.Scheme != "https" {
			t.Errorf("address %q: %v", address, err)
		}
	}
	if len(meta.Sources) == 0 || len(meta.Maintainers) == 0 || meta.Maintainers[0].Name == "" || len(meta.Keywords) == 0 || meta.KubeVersion == "" {
		t.Errorf("incomplete: %+v", meta)
	}
	var changes []struct{ Kind, Description string }
	if err := yaml.UnmarshalStrict([]byte(meta.Annotations["artifacthub.io/changes"]), &changes); err != nil || len(changes) == 0 {
		t.Errorf("changes: %v, %v", changes, err)
	}
	for _, change := range changes {
		if !slices.Contains([]string{"added", "changed", "deprecated", "removed", "fixed", "security"}, change.Kind) || change.Description == "" {
			t.Errorf("change %+v", change)
		}
	}
	icon, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(meta.Icon, "data:image/svg+xml;base64,"))
	if want, fault := os.ReadFile("../../docs/pictures/icon.svg"); err != nil || fault != nil || !bytes.Equal(bytes.TrimSpace(want), icon) {
		t.Errorf("the icon is not docs/pictures/icon.svg: %v, %v", err, fault)
	}
}

func TestThePackageHasNoValuesOfTests(t *testing.T) {
	loaded, err := loader.Load(chartDir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, file := range loaded.Raw {
		names = append(names, file.Name)
		if strings.HasPrefix(file.Name, "ci/") || strings.HasSuffix(file.Name, "kustomization.yaml") {
			t.Errorf("it has %s", file.Name)
		}
	}
	for _, want := range []string{"README.md", "values.schema.json", "monitoring/rules.yaml", "monitoring/dashboard.json"} {
		if !slices.Contains(names, want) {
			t.Errorf("it has no %s", want)
		}
	}
}

// TestTheFilesAreTidy checks what yamllint would.
func TestTheFilesAreTidy(t *testing.T) {
	err := filepath.WalkDir("..", func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !slices.Contains([]string{".yaml", ".tpl", ".json", ".md", ".gotmpl", ".txt"}, filepath.Ext(path)) {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for number, line := range strings.Split(string(text), "\n") {
			if strings.TrimRight(line, " \t\r") != line || strings.Contains(line, "\t") {
				t.Errorf("%s:%d: spaces at the end, or a tab", path, number+1)
			}
		}
		if !bytes.HasSuffix(text, []byte("\n")) || bytes.HasSuffix(text, []byte("\n\n")) {
			t.Errorf("%s: want one newline at the end", path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
