package metrics_test

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"bitbucket-runner-scaler/externalscaler/status/metrics"
)

var update = flag.Bool("update", false, "write the document of the metrics")

const document = "../../../docs/metrics.md"

const introduction = `# Metrics

<!-- Generated from externalscaler/status/metrics by make generate. -->

Port 8080 of each replica serves these metrics at ` + "`/metrics`" + `. [Operating](operate.md#alerts) says which of them to watch, and
[Deploy](../deploy/README.md#monitoring) how to have Prometheus read them, with alerts and a dashboard.

- Scrape every replica, not only the leader. A standby shows ` + "`leader` 0" + ` and nothing of groups, scopes and budgets, so a sum over all replicas is the value
  of the leader.
- What the scaler knows is only in memory. Counters and histograms begin at 0 with the process: use ` + "`rate`" + ` or ` + "`increase`" + ` over all replicas. A
  change of the leader is such a beginning.
- The series of a group are there as long as its ScaledJob. Counters and histograms show 0 before the first event, unless the table says otherwise.
- With 100 groups and 1,000 runners there are fewer than 10,000 series. No label has the name of a runner, a pod, a step or a pipeline, or a secret.
- ` + "`namespace` and `scaledjob`" + ` name a group. If Prometheus also sets ` + "`namespace`" + ` for what it scrapes, it needs ` + "`honorLabels: true`" + `.

**From** says from when on a metric is shown and means something:

| from | shown |
|---|---|
| start | by each replica, from its start |
| lead | by the leader |
| group | by the leader, for each valid group. ` + "`group_faulty`" + ` also for the others |
| list | by the leader, from the first list of the scope |
| queue | by the leader, for groups with the strategy ` + "`queuedSteps`" + ` |
| webhooks | by each replica, if ` + "`--webhook-listen`" + ` is set |
`

// render renders the document.
func render() string {
	var b strings.Builder
	b.WriteString(introduction)
	for _, section := range metrics.Catalogue() {
		fmt.Fprintf(&b, "\n## %s\n\n| metric | type | unit | labels | from | meaning |\n|---|---|---|---|---|---|\n", section.Title)
		for _, m := range section.Metrics {
			labels := ""
			if len(m.Labels) > 0 {
				labels = "`" + strings.Join(m.Labels, "`, `") + "`"
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s |\n", m.Name, m.Type, m.Unit, labels, m.From, m.Help)
		}
	}
	b.WriteString("\nThe metrics `go_*` and `process_*` are those of the Go runtime and of the process, as of every program with Prometheus' library for Go.\n")
	return b.String()
}

func TestTheDocumentIsCurrent(t *testing.T) {
	want := render()
	if *update {
		if err := os.WriteFile(document, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Error("docs/metrics.md is not current: run make generate")
	}
}

func TestTheDocumentHasEachMetricThatIsShownAndNoOther(t *testing.T) {
	m, registry := show(t, someWorld())
	m.Call("default", "GET", "/", 200, 0)
	defined := map[string]*metrics.Metric{}
	for _, section := range metrics.Catalogue() {
		for _, metric := range section.Metrics {
			defined[metric.Name] = metric
		}
	}
	missing := maps.Clone(defined)
	for _, family := range gather(t, registry) {
		name := family.GetName()
		if strings.HasPrefix(name, "go_") || strings.HasPrefix(name, "process_") {
			continue
		}
		delete(missing, name)
		known := defined[name]
		if known == nil {
			t.Errorf("%s is in no document", name)
			continue
		}
		if kind := strings.ToLower(family.GetType().String()); kind != known.Type {
			t.Errorf("%s is a %s, and a %s in the document", name, kind, known.Type)
		}
		var labels []string
		for _, label := range family.GetMetric()[0].GetLabel() {
			labels = append(labels, label.GetName())
		}
		if want := slices.Sorted(slices.Values(known.Labels)); !slices.Equal(slices.Sorted(slices.Values(labels)), want) {
			t.Errorf("%s has the labels %v, and %v in the document", name, labels, want)
		}
	}
	for name := range missing {
		t.Errorf("%s is in the document, and not shown", name)
	}
}
