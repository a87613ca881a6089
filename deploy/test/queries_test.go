package deploytest

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"bitbucket-runner-scaler/externalscaler/status/metrics"
)

// targetLabels are those that Prometheus sets by the PodMonitor.
var targetLabels = []string{"job", "instance", "pod", "container", "namespace"}

// shown are the labels of each series that the scaler shows, by its name.
func shown() map[string][]string {
	series := map[string][]string{"process_resident_memory_bytes": nil}
	for _, section := range metrics.Catalogue() {
		for _, m := range section.Metrics {
			if m.Type != "histogram" {
				series[m.Name] = m.Labels
				continue
			}
			series[m.Name+"_bucket"] = append([]string{"le"}, m.Labels...)
			series[m.Name+"_sum"], series[m.Name+"_count"] = m.Labels, m.Labels
		}
	}
	return series
}

// variables are Grafana's own, and those of the dashboard, with what they may stand for.
var variables = strings.NewReplacer("$__rate_interval", "5m", "$job", "a/b", "$namespace", ".*", "$scaledjob", ".*")

// checkQuery returns what is wrong with a query: its syntax, or metrics and labels that there are
// not.
func checkQuery(query string) (faults []string) {
	known := shown()
	expr, err := parser.NewParser(parser.Options{}).ParseExpr(variables.Replace(query))
	if err != nil {
		return []string{err.Error()}
	}
	named := map[string]bool{}
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		selector, ok := node.(*parser.VectorSelector)
		if !ok {
			return nil
		}
		has, ok := known[selector.Name]
		if !ok {
			faults = append(faults, "there is no "+selector.Name)
			return nil
		}
		for _, label := range slices.Concat(has, targetLabels) {
			named[label] = true
		}
		for _, matcher := range selector.LabelMatchers {
			if matcher.Name != model.MetricNameLabel && !slices.Contains(has, matcher.Name) && !slices.Contains(targetLabels, matcher.Name) {
				faults = append(faults, fmt.Sprintf("%s has no label %s", selector.Name, matcher.Name))
			}
		}
		if !slices.ContainsFunc(selector.LabelMatchers, func(m *labels.Matcher) bool { return m.Name == "job" }) {
			faults = append(faults, selector.Name+" is not limited to one installation")
		}
		return nil
	})
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		if sum, ok := node.(*parser.AggregateExpr); ok {
			for _, label := range sum.Grouping {
				if !named[label] {
					faults = append(faults, "nothing has the label "+label)
				}
			}
		}
		return nil
	})
	return faults
}

// legendLabels finds the labels that a legend names.
var legendLabels = regexp.MustCompile(`{{ *(\w+) *}}`)

func TestAQueryIsCheckedAgainstWhatThereIs(t *testing.T) {
	for query, want := range map[string]string{
		`sum by (state) (bitbucket_runner_scaler_runners{job="$job",namespace=~"$namespace"})`:                       "",
		`histogram_quantile(0.5, sum by (le) (rate(bitbucket_runner_scaler_step_wait_seconds_bucket{job="a"}[1m])))`: "",
		`bitbucket_runner_scaler_runner{job="$job"}`:                                                                 "there is no bitbucket_runner_scaler_runner",
		`bitbucket_runner_scaler_runners{job="$job",status="idle"}`:                                                  "no label status",
		`sum by (group) (bitbucket_runner_scaler_runners{job="$job"})`:                                               "nothing has the label group",
		`bitbucket_runner_scaler_runners`:                                                                            "not limited to one installation",
		`sum(bitbucket_runner_scaler_leader{job="$job"}`:                                                             "parse error",
	} {
		if got := strings.Join(checkQuery(query), "; "); (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%s: got %q, want %q", query, got, want)
		}
	}
}
