package deploytest

import (
	"encoding/json"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	grafana "github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

// dashboard is the part of Grafana's model that is checked.
type dashboard struct {
	Title         string `json:"title"`
	UID           string `json:"uid"`
	SchemaVersion int    `json:"schemaVersion"`
	Templating    struct {
		List []struct {
			Name       string `json:"name"`
			Type       string `json:"type"`
			Definition string `json:"definition"`
			Query      any    `json:"query"`
		} `json:"list"`
	} `json:"templating"`
	Panels []struct {
		ID         int        `json:"id"`
		Type       string     `json:"type"`
		Title      string     `json:"title"`
		Datasource datasource `json:"datasource"`
		GridPos    struct{ H, W, X, Y int }
		Targets    []struct {
			Datasource datasource `json:"datasource"`
			Expr       string     `json:"expr"`
			Legend     string     `json:"legendFormat"`
			RefID      string     `json:"refId"`
		} `json:"targets"`
	} `json:"panels"`
}

type datasource struct{ Type, UID string }

func readDashboard(t *testing.T) (d dashboard, text string) {
	t.Helper()
	content, err := os.ReadFile("../chart/monitoring/dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(content, &d); err != nil {
		t.Fatal(err)
	}
	return d, string(content)
}

func TestEachQueryOfTheDashboardAsksForWhatThereIs(t *testing.T) {
	d, _ := readDashboard(t)
	queries := 0
	for _, panel := range d.Panels {
		for _, target := range panel.Targets {
			queries++
			for _, fault := range checkQuery(target.Expr) {
				t.Errorf("%s: %s: %s", panel.Title, target.Expr, fault)
			}
			for _, label := range legendLabels.FindAllStringSubmatch(target.Legend, -1) {
				if by := regexp.MustCompile(`by \(([^)]*)\)`).FindStringSubmatch(target.Expr); by != nil && !slices.Contains(strings.Split(by[1], ", "), label[1]) {
					t.Errorf("%s: the legend names %s, which %s drops", panel.Title, label[1], target.Expr)
				}
			}
		}
	}
	if queries < 40 {
		t.Errorf("%d queries, want those of groups, queue, waits, allowance, leader and reaper", queries)
	}
	values := regexp.MustCompile(`^label_values\((.*), (\w+)\)$`)
	for _, variable := range d.Templating.List {
		if variable.Type != "query" {
			continue
		}
		if asked, _ := variable.Query.(object); asked["query"] != variable.Definition {
			t.Errorf("variable %s asks %v, and shows %s", variable.Name, variable.Query, variable.Definition)
		}
		query := values.FindStringSubmatch(variable.Definition)
		if query == nil {
			t.Fatalf("variable %s: %s", variable.Name, variable.Definition)
		}
		metric, _, _ := strings.Cut(query[1], "{")
		if has, ok := shown()[metric]; !ok || !slices.Contains(slices.Concat(has, targetLabels), query[2]) {
			t.Errorf("variable %s: there is no label %s of %s", variable.Name, query[2], metric)
		}
	}
}

func TestTheDashboardIsOneThatGrafanaKnows(t *testing.T) {
	_, text := readDashboard(t)
	plugins.RegisterDefaultPlugins()
	var model grafana.Dashboard //nolint:staticcheck // Grafana of every version reads this form from a ConfigMap
	for _, err := range []error{model.UnmarshalJSONStrict([]byte(text)), model.Validate()} {
		if err != nil && err.Error() != "" { // an empty list of faults is an error too
			t.Error(err)
		}
	}
}

func TestTheDashboardIsSound(t *testing.T) {
	d, text := readDashboard(t)
	var names []string
	for _, variable := range d.Templating.List {
		names = append(names, variable.Name)
	}
	if want := []string{"datasource", "job", "namespace", "scaledjob"}; !slices.Equal(names, want) {
		t.Errorf("variables %q, want %q", names, want)
	}
	for _, used := range regexp.MustCompile(`\$\{?([a-z]\w*)`).FindAllStringSubmatch(text, -1) {
		if !slices.Contains(names, used[1]) {
			t.Errorf("there is no variable %s", used[1])
		}
	}
	if d.Title == "" || d.UID != name || d.SchemaVersion < 36 {
		t.Errorf("title %q, uid %q, schema %d", d.Title, d.UID, d.SchemaVersion)
	}
	ids, titles, cells := map[int]bool{}, map[string]bool{}, map[[2]int]string{}
	for _, panel := range d.Panels {
		if ids[panel.ID] || titles[panel.Title] || panel.Title == "" {
			t.Errorf("panel %d %q is there twice", panel.ID, panel.Title)
		}
		ids[panel.ID], titles[panel.Title] = true, true
		for x := range panel.GridPos.W {
			for y := range panel.GridPos.H {
				cell := [2]int{panel.GridPos.X + x, panel.GridPos.Y + y}
				if other := cells[cell]; other != "" || cell[0] >= 24 {
					t.Fatalf("%q covers %q, or is out of the page", panel.Title, other)
				}
				cells[cell] = panel.Title
			}
		}
		if panel.Type == "row" {
			continue
		}
		refs := map[string]bool{}
		for _, target := range panel.Targets {
			refs[target.RefID] = true
			if target.Datasource != (datasource{"prometheus", "${datasource}"}) || target.Datasource != panel.Datasource {
				t.Errorf("%q asks %v", panel.Title, target.Datasource)
			}
		}
		if len(refs) != len(panel.Targets) || len(refs) == 0 {
			t.Errorf("%q has the queries %v", panel.Title, slices.Sorted(maps.Keys(refs)))
		}
	}
}
