package deploytest

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"sigs.k8s.io/yaml"
)

// What Artifact Hub requires of a package, from its documentation of artifacthub-pkg.yml.
func TestTheEntryAtArtifactHubIsThatOfTheChart(t *testing.T) {
	var entry struct {
		Version, Name, DisplayName, CreatedAt, Description, Category, License string
	}
	var chart struct{ Version, Name string }
	read := func(path string, into any) {
		t.Helper()
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := yaml.Unmarshal(text, into); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
	}
	read(filepath.Join("..", "artifacthub", "artifacthub-pkg.yml"), &entry)
	read(filepath.Join(chartDir, "Chart.yaml"), &chart)
	if entry.Version != chart.Version || entry.Name != chart.Name {
		t.Errorf("%s %s, the chart is %s %s", entry.Name, entry.Version, chart.Name, chart.Version)
	}
	if _, err := time.Parse(time.RFC3339, entry.CreatedAt); err != nil {
		t.Error(err)
	}
	if entry.DisplayName == "" || entry.Description == "" || entry.Category != "integration-delivery" || entry.License != "Apache-2.0" {
		t.Errorf("incomplete: %+v", entry)
	}
}
