package deploytest

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"sigs.k8s.io/yaml"
)

// rule is the part of the Prometheus Operator's PrometheusRule that the installations use.
type rule struct {
	Spec struct {
		Groups []struct {
			Name  string  `json:"name"`
			Rules []alert `json:"rules"`
		} `json:"groups"`
	} `json:"spec"`
}

// alert is an alert as Prometheus knows it.
type alert struct {
	Alert       string            `json:"alert"`
	Expr        string            `json:"expr"`
	For         string            `json:"for"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
}

// alerts are those of an installation.
func alerts(t *testing.T, all objects) []alert {
	t.Helper()
	fields, ok := all["PrometheusRule "+controlPlane+"/"+name]
	if !ok {
		t.Fatal("there is no PrometheusRule")
	}
	var found []alert
	for _, group := range into[rule](t, object{"spec": fields["spec"]}).Spec.Groups {
		found = append(found, group.Rules...)
	}
	return found
}

// promtool runs promtool. Its plugins for service discovery, most of its size, are left out.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	command := exec.CommandContext(t.Context(), "go", append([]string{"tool", "-modfile=.ci/promtool.mod", "promtool"}, args...)...)
	command.Dir = "../.."
	command.Env = append(os.Environ(), "GOFLAGS="+os.Getenv("GOFLAGS")+" -tags=remove_all_sd")
	if output, err := command.CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", args[0], err, output)
	}
}

// written writes alerts as a file of Prometheus.
func written(t *testing.T, all []alert) string {
	t.Helper()
	text, err := yaml.Marshal(object{"groups": []object{{"name": "alerts", "rules": all}}})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "rules.yaml")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPromtoolFindsNothingInTheAlerts(t *testing.T) {
	promtool(t, "check", "rules", "--lint=all", "--lint-fatal", written(t, alerts(t, kustomized(t, "overlays/monitoring"))))
}

func TestEachAlertFiresWhenItShould(t *testing.T) {
	all := alerts(t, kustomized(t, "overlays/monitoring"))
	text, err := os.ReadFile("testdata/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var tests struct {
		Tests []struct {
			Alerts []struct {
				Name string `json:"alertname"`
				Want []any  `json:"exp_alerts"`
			} `json:"alert_rule_test"`
		} `json:"tests"`
	}
	if err := yaml.Unmarshal(text, &tests); err != nil {
		t.Fatal(err)
	}
	fired, silent := map[string]bool{}, map[string]bool{}
	for _, test := range tests.Tests {
		for _, expected := range test.Alerts {
			if len(expected.Want) > 0 {
				fired[expected.Name] = true
			} else {
				silent[expected.Name] = true
			}
		}
	}
	for i, a := range all {
		if !fired[a.Alert] || !silent[a.Alert] {
			t.Errorf("%s: no test in which it fires, or none in which it does not", a.Alert)
		}
		all[i].Annotations = map[string]string{"summary": a.Annotations["summary"]} // the others are not repeated in the tests
	}
	rules := written(t, all)
	path := filepath.Join(filepath.Dir(rules), "tests.yaml")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "test", "rules", path)
}

func TestEachAlertAsksForWhatThereIsAndHasARunbook(t *testing.T) {
	page, err := os.ReadFile("../../docs/operate.md")
	if err != nil {
		t.Fatal(err)
	}
	anchors := map[string]bool{}
	for _, heading := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(string(page), -1) {
		anchors[anchor(heading[1])] = true
	}
	all := alerts(t, kustomized(t, "overlays/monitoring"))
	for _, a := range all {
		for _, fault := range checkQuery(a.Expr) {
			t.Errorf("%s: %s", a.Alert, fault)
		}
		if !slices.Contains([]string{"info", "warning", "critical"}, a.Labels["severity"]) || a.For == "" || a.Annotations["summary"] == "" || a.Annotations["description"] == "" {
			t.Errorf("%s lacks a severity, a time or a text: %+v", a.Alert, a)
		}
		if !regexp.MustCompile(`[<>] [0-9.]+$`).MatchString(a.Expr) {
			t.Errorf("%s does not end with its threshold: %s", a.Alert, a.Expr)
		}
		if want := "docs/operate.md#" + strings.ToLower(a.Alert); a.Annotations["runbook"] != want || !anchors[strings.ToLower(a.Alert)] {
			t.Errorf("%s: the runbook is %s, want %s, which must be there: %v", a.Alert, a.Annotations["runbook"], want, anchors[strings.ToLower(a.Alert)])
		}
		delete(anchors, strings.ToLower(a.Alert))
	}
	for left := range anchors {
		if strings.HasPrefix(left, "bitbucketrunner") {
			t.Errorf("there is a runbook for %s, and no such alert", left)
		}
	}
}

// anchor is what a heading is linked by.
func anchor(heading string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
			return unicode.ToLower(r)
		}
		return -1
	}, heading)
}

func TestAlertsCanBeChangedByValues(t *testing.T) {
	found, _, err := charted(controlPlane, parsed(t, `prometheusRule:
  enabled: true
  labels: {release: monitoring}
  repository: https://git.example.com/runners/
  alerts:
    BitbucketRunnerAllowanceLow: {for: 30m, severity: critical, threshold: 0.2}
    BitbucketRunnerStepsUnserved: {enabled: false}
`))
	if err != nil {
		t.Fatal(err)
	}
	plain := alerts(t, kustomized(t, "overlays/monitoring"))
	changed := alerts(t, found)
	for _, a := range plain {
		at := slices.IndexFunc(changed, func(c alert) bool { return c.Alert == a.Alert })
		if a.Alert == "BitbucketRunnerStepsUnserved" {
			if at >= 0 {
				t.Errorf("%s is still there", a.Alert)
			}
			continue
		}
		got := changed[at]
		if url := "https://git.example.com/runners/" + a.Annotations["runbook"]; got.Annotations["runbook_url"] != url {
			t.Errorf("%s: the runbook is at %s, want %s", a.Alert, got.Annotations["runbook_url"], url)
		}
		if a.Alert == "BitbucketRunnerAllowanceLow" {
			a.For, a.Labels["severity"], a.Expr = "30m", "critical", strings.Replace(a.Expr, "< 0.05", "< 0.2", 1)
		}
		if got.Expr != a.Expr || got.For != a.For || got.Labels["severity"] != a.Labels["severity"] {
			t.Errorf("got %+v, want %+v", got, a)
		}
	}
	if labels := flat(found["PrometheusRule "+controlPlane+"/"+name]); !strings.Contains(labels, "release: monitoring") {
		t.Error("the label by which Prometheus selects it is missing")
	}
	for _, a := range plain {
		change := object{"prometheusRule": object{"enabled": true, "alerts": object{a.Alert: object{"severity": "mine"}}}}
		found, _, err := charted(controlPlane, change)
		if err != nil {
			t.Error(err)
			continue
		}
		for _, b := range alerts(t, found) {
			if (b.Labels["severity"] == "mine") != (b.Alert == a.Alert) {
				t.Errorf("a change of %s: %s has the severity %s", a.Alert, b.Alert, b.Labels["severity"])
			}
		}
	}
}
