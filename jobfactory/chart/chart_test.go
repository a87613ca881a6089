package chart_test

import (
	"flag"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bitbucket-runner-scaler/jobfactory/chart"
)

var update = flag.Bool("update", false, "write the generated parts of the chart")

// current compares a file of the chart with what is generated for it.
func current(t *testing.T, path string, generate func(old []byte) ([]byte, error)) {
	t.Helper()
	old, err := os.ReadFile(path)
	if err != nil && !*update {
		t.Fatal(err)
	}
	want, err := generate(old)
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(string(want), string(old)); diff != "" {
		t.Errorf("%s is not current (make generate): generated -, committed +:\n%s", path, diff)
	}
}

func TestTheChartIsCurrent(t *testing.T) {
	current(t, "../../deploy/chart/groups/parts.yaml", func([]byte) ([]byte, error) { return chart.Parts() })
	current(t, "../../deploy/chart/values.schema.json", chart.Schema)
}
