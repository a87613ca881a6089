package runnergroup_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"bitbucket-runner-scaler/externalscaler/policy"
	"bitbucket-runner-scaler/externalscaler/runnergroup"
)

func faultsOf(t *testing.T, metadata map[string]string) []runnergroup.Fault {
	t.Helper()
	_, err := runnergroup.Parse(metadata)
	var invalid *runnergroup.InvalidError
	if !errors.As(err, &invalid) {
		t.Fatalf("%v: got %v, want an InvalidError", metadata, err)
	}
	return invalid.Faults
}

func TestSmallNumbersAreUnchangedByMetadataAndParse(t *testing.T) {
	group, err := runnergroup.Parse(with(map[string]string{"scaleDownThreshold": "0.00001", "scaleDownMultiplier": "0.0000003"}))
	if err != nil {
		t.Fatal(err)
	}
	again, err := runnergroup.Parse(group.Metadata())
	if diff := cmp.Diff(group, again); err != nil || diff != "" {
		t.Errorf("%v: %v, diff %s", group.Metadata(), err, diff)
	}
}

func TestMetadataOmitsDefaults(t *testing.T) {
	for name, m := range map[string]map[string]string{
		"minimal":         {"workspace": "acme", "labels": "builds"},
		"fixed":           {"workspace": "acme", "labels": "builds", "strategy": "fixed", "count": "0"},
		"ephemeral":       {"workspace": "acme", "labels": "builds", "ephemeral": "true"},
		"no spare":        {"workspace": "acme", "labels": "builds", "ephemeral": "true", "spare": "0"},
		"everything else": {"workspace": "acme", "repository": "app", "labels": "a,b", "os": "linux.arm64", "strategy": "queuedSteps", "min": "2", "max": "3", "spare": "2", "scaleUpThreshold": "0.9", "scaleDownThreshold": "0.1", "scaleUpMultiplier": "2", "scaleDownMultiplier": "0.25", "coolDown": "1m0s", "ephemeral": "true", "maxAge": "0s", "credentials": "team"},
		"repositories":    {"workspace": "acme", "labels": "builds", "strategy": "queuedSteps", "repositories": "app,web"},
	} {
		group, err := runnergroup.Parse(m)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(m, group.Metadata()); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestSlugsCannotChangeTheRequestPath(t *testing.T) {
	for _, place := range []string{".", "..", "a/b", "a%2fb", "a b", "a?b", strings.Repeat("a", 129)} {
		for _, key := range []string{"workspace", "repository", "repositories"} {
			m := with(map[string]string{key: place})
			if key == "repositories" {
				m["strategy"] = "queuedSteps"
			}
			if f := faultsOf(t, m); len(f) != 1 || f[0].Key != key {
				t.Errorf("%s %q: got %v, want one fault for it", key, place, f)
			}
		}
	}
}

func TestAcceptedForms(t *testing.T) {
	for name, c := range map[string]struct {
		change map[string]string
		as     func(runnergroup.Group) bool
	}{
		"spaces around":          {map[string]string{"max": " 7 "}, func(g runnergroup.Group) bool { return g.Rules.Max == 7 }},
		"bounds of max":          {map[string]string{"min": "100", "max": "100"}, func(g runnergroup.Group) bool { return g.Rules.Min == 100 && g.Rules.Max == 100 }},
		"least max":              {map[string]string{"max": "1"}, func(g runnergroup.Group) bool { return g.Rules.Max == 1 }},
		"threshold 1":            {map[string]string{"scaleUpThreshold": "1"}, func(g runnergroup.Group) bool { return g.Rules.ScaleUpThreshold == 1 }},
		"multiplier 100":         {map[string]string{"scaleUpMultiplier": "100"}, func(g runnergroup.Group) bool { return g.Rules.ScaleUpMultiplier == 100 }},
		"bare seconds":           {map[string]string{"coolDown": "90"}, func(g runnergroup.Group) bool { return g.Rules.CoolDown == 90*time.Second }},
		"no cool-down":           {map[string]string{"coolDown": "0s"}, func(g runnergroup.Group) bool { return g.Rules.CoolDown == 0 }},
		"longest maxAge":         {map[string]string{"maxAge": "720h"}, func(g runnergroup.Group) bool { return g.MaxAge == 720*time.Hour }},
		"nine labels":            {map[string]string{"labels": "a,b,c,d,e,f,g,h,i,a"}, func(g runnergroup.Group) bool { return len(g.Labels) == 9 }},
		"label of 50":            {map[string]string{"labels": strings.Repeat("a", 50)}, func(g runnergroup.Group) bool { return len(g.Labels[0]) == 50 }},
		"labels of every runner": {map[string]string{"labels": "self.hosted,linux,builds"}, func(g runnergroup.Group) bool { return cmp.Equal(g.Labels, []string{"builds"}) }},
		"label of its os":        {map[string]string{"os": "linux.arm64", "labels": "builds,linux.arm64"}, func(g runnergroup.Group) bool { return cmp.Equal(g.Labels, []string{"builds"}) }},
		"shell": {map[string]string{"os": "linux.shell"}, func(g runnergroup.Group) bool {
			return cmp.Equal(g.RunnerLabels("o"), []string{"builds", "linux.shell", "o", "self.hosted"})
		}},
		"label like a system": {map[string]string{"labels": "linux.big"}, func(g runnergroup.Group) bool { return g.Labels[0] == "linux.big" }},
		"credentials of 63":   {map[string]string{"credentials": strings.Repeat("a", 63)}, func(g runnergroup.Group) bool { return len(g.Credentials) == 63 }},
		"repository":          {map[string]string{"repository": "{22222222-2222-4222-8222-22222222222f}"}, func(g runnergroup.Group) bool { return g.Repository != "" }},
		"no minimum":          {map[string]string{"strategy": "queuedSteps", "min": "0"}, func(g runnergroup.Group) bool { return g.Rules.Min == 0 }},
		"look-ahead":          {map[string]string{"strategy": "queuedSteps", "lookAhead": "30"}, func(g runnergroup.Group) bool { return g.LookAhead == 30*time.Second }},
		"no look-ahead":       {map[string]string{"lookAhead": "0"}, func(g runnergroup.Group) bool { return g.LookAhead == 0 }},
		"repositories once":   {map[string]string{"strategy": "queuedSteps", "repositories": "web,app,web"}, func(g runnergroup.Group) bool { return cmp.Equal(g.Repositories, []string{"app", "web"}) }},
		"spare is kept":       {map[string]string{"ephemeral": "true", "spare": "0"}, func(g runnergroup.Group) bool { return g.Rules.Spare == 0 }},
		"fixed, all": {map[string]string{"strategy": "fixed", "count": "100"}, func(g runnergroup.Group) bool {
			return g.Rules == policy.Rules{Strategy: policy.Fixed, Count: 100, CoolDown: 5 * time.Minute}
		}},
		"KEDA's keys": {map[string]string{"scalerAddress": "x", "enableTLS": "x", "unsafeSsl": "x", "caCert": "x", "tlsClientCert": "x", "tlsClientKey": "x", "tlsCertFile": "x", "metricName": "x"},
			func(g runnergroup.Group) bool { return g.Workspace == "acme" }},
	} {
		group, err := runnergroup.Parse(with(c.change))
		if err != nil || !c.as(group) {
			t.Errorf("%s: got %+v, %v", name, group, err)
		}
	}
}

func TestRefusedForms(t *testing.T) {
	for key, values := range map[string][]string{
		"max":                 {"101", "0", "-1", "+1", "1.0", "1_0", "0x1", "1e1", "99999999999999999999", "a"},
		"spare":               {"101", "-1"},
		"scaleUpThreshold":    {"1.01", "0", "nan", "inf", "-0.5", "+0.5", ".5", "0.5.", "1_0.0", "5e-1", "0x1p-1", "1e309"},
		"scaleDownThreshold":  {"1", "0", "0.0"},
		"scaleUpMultiplier":   {"1", "100.1", "0.9"},
		"scaleDownMultiplier": {"1", "0", "1.5"},
		"coolDown":            {"-1", "-1s", "+5m", "1e3", "NaN", "721h", "720h0m1s", "9999999999", "5 m", "5x"},
		"maxAge":              {"-1ns", "1d"},
		"ephemeral":           {"True", "1", "yes"},
		"labels":              {"A", "a-b", "a_b", "self.hosted", "linux", "linux.arm64", "linux.shell", "macos", "windows", "keda.", "keda.k8s.0123abcd", ",", "ä"},
		"credentials":         {"A", "-a", "a-", "a.b", strings.Repeat("a", 64)},
		"os":                  {"Linux", "linux.amd64", "windows", "macos"},
	} {
		for _, value := range values {
			f := faultsOf(t, with(map[string]string{key: value}))
			if len(f) != 1 || f[0].Key != key || f[0].Accepted == "" || value != "," && f[0].Given != fmt.Sprintf("%q", value) {
				t.Errorf("%s %q: got %+v, want one fault for it", key, value, f)
			}
		}
	}
}

func TestAllIndependentFaultsAreReported(t *testing.T) {
	for name, c := range map[string]struct {
		change map[string]string
		keys   []string
	}{
		"max and min 0":             {map[string]string{"min": "0", "max": "0"}, []string{"max", "min"}},
		"unknown strategy alone":    {map[string]string{"strategy": "best", "count": "1", "repositories": "app"}, []string{"strategy"}},
		"bad max leaves min alone":  {map[string]string{"min": "20", "max": "x"}, []string{"max"}},
		"bad up leaves down alone":  {map[string]string{"scaleUpThreshold": "x", "scaleDownThreshold": "0.9"}, []string{"scaleUpThreshold"}},
		"two labels":                {map[string]string{"labels": "B,A"}, []string{"labels", "labels"}},
		"both spellings":            {map[string]string{"max_age": "x", "maxAge": "1h"}, []string{"maxAge"}},
		"fixed with all other keys": {map[string]string{"strategy": "fixed", "count": "x", "min": "1", "max": "1", "spare": "1", "scaleUpThreshold": "1", "scaleDownThreshold": "1", "scaleUpMultiplier": "1", "scaleDownMultiplier": "1"}, []string{"count", "max", "min", "scaleDownMultiplier", "scaleDownThreshold", "scaleUpMultiplier", "scaleUpThreshold", "spare"}},
		"repositories of one":       {map[string]string{"strategy": "queuedSteps", "repository": "app", "repositories": "web"}, []string{"repositories"}},
	} {
		var keys []string
		for _, f := range faultsOf(t, with(c.change)) {
			keys = append(keys, f.Key)
		}
		if diff := cmp.Diff(c.keys, keys); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestSameMetadataHasTheSameFaults(t *testing.T) {
	m := with(map[string]string{"maxAge": "x", "max_age": "y", "coolDown": "z", "cool_down": "z", "minn": "1", "maxx": "2"})
	_, first := runnergroup.Parse(m)
	for range 50 {
		if _, err := runnergroup.Parse(m); err.Error() != first.Error() {
			t.Fatalf("got %v, then %v", first, err)
		}
	}
}

func TestErrorTextsAreBounded(t *testing.T) {
	t.Run("thousands of faults", func(t *testing.T) {
		m := with(map[string]string{"labels": strings.Repeat("A,", 30_000)})
		_, err := runnergroup.Parse(m)
		if len(err.Error()) > 8<<10 || !strings.HasSuffix(err.Error(), "and 29970 more") {
			t.Errorf("got %d bytes ending in %q", len(err.Error()), err.Error()[len(err.Error())-30:])
		}
		if n := len(faultsOf(t, m)); n != 30_000 {
			t.Errorf("got %d faults, want all 30000", n)
		}
	})
	t.Run("the maximum number of faults", func(t *testing.T) {
		_, err := runnergroup.Parse(with(map[string]string{"labels": strings.Repeat("A,", 30)}))
		if strings.Contains(err.Error(), "more") || strings.Count(err.Error(), ";") != 29 {
			t.Errorf("got %v", err)
		}
	})
	t.Run("keys with line breaks", func(t *testing.T) {
		_, err := runnergroup.Parse(with(map[string]string{"a\nb": "1"}))
		if strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), `"a\nb": unknown key`) {
			t.Errorf("got %q", err)
		}
	})
	t.Run("long keys", func(t *testing.T) {
		f := faultsOf(t, with(map[string]string{strings.Repeat("k", 5000): "1"}))
		if len(f) != 1 || len(f[0].Key) > 80 {
			t.Errorf("got %+v", f)
		}
	})
	t.Run("long values", func(t *testing.T) {
		f := faultsOf(t, with(map[string]string{"os": strings.Repeat("ä", 2000)}))
		if want := `"` + strings.Repeat("ä", 32) + `..."`; len(f) != 1 || f[0].Given != want {
			t.Errorf("got %+v, want %s", f, want)
		}
	})
	t.Run("values at the maximum length", func(t *testing.T) {
		for size, want := range map[int]string{
			64: `"` + strings.Repeat("a", 64) + `"`, 65: `"` + strings.Repeat("a", 64) + `..."`, 66: `"` + strings.Repeat("a", 64) + `..."`,
		} {
			if f := faultsOf(t, with(map[string]string{"os": strings.Repeat("a", size)})); f[0].Given != want {
				t.Errorf("%d: got %s, want %s", size, f[0].Given, want)
			}
		}
	})
	t.Run("metadata of the maximum size", func(t *testing.T) {
		m := with(nil)
		size := len("workspace") + len("acme") + len("labels") + len("builds") + len("metricName")
		m["metricName"] = strings.Repeat("x", 64<<10-size)
		if _, err := runnergroup.Parse(m); err != nil {
			t.Errorf("64 KiB: %v", err)
		}
		m["metricName"] += "x"
		want := []runnergroup.Fault{{Key: "metadata", Given: "65537 bytes", Accepted: "at most 65536"}}
		if diff := cmp.Diff(want, faultsOf(t, m)); diff != "" {
			t.Error(diff)
		}
	})
}

func TestUnknownKeysSuggestACloseOne(t *testing.T) {
	for key, want := range map[string]string{
		"label": "labels", "maxage": "maxAge", "MAX": "max", "scaleUpTreshold": "scaleUpThreshold", "scale_up_treshold": "scaleUpThreshold",
		"credential": "credentials", "crdntils": "credentials", "scaledownmultiplyerr": "scaleDownMultiplier", "scaleUpXhreshxld": "scaleUpThreshold", "worspace": "workspace", "repositorys": "repository", "foo": "", "x": "", "": "", "pollingInterval": "", "maxReplicaCount": "",
	} {
		accepted := "unknown key"
		if want != "" {
			accepted += ", did you mean " + want + "?"
		}
		if f := faultsOf(t, with2(key)); len(f) != 1 || f[0].Accepted != accepted {
			t.Errorf("%q: got %+v, want %q", key, f, accepted)
		}
	}
}

// with2 returns valid metadata with one more key, which may be empty.
func with2(key string) map[string]string {
	m := with(nil)
	m[key] = "1"
	return m
}

func TestAnyGroupIsUnchangedByMetadataAndParse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		place := rapid.StringMatching(`[a-zA-Z0-9_-]{1,10}|\{[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\}`)
		duration := func(name string) string {
			return time.Duration(rapid.Int64Range(0, int64(720*time.Hour)).Draw(t, name)).String()
		}
		m := map[string]string{
			"workspace": place.Draw(t, "workspace"), "labels": rapid.StringMatching(`x[a-z0-9.]{0,49}(,y[a-z0-9.]{0,9}){0,8}`).Draw(t, "labels"),
			"os": rapid.SampledFrom([]string{"linux", "linux.arm64"}).Draw(t, "os"), "coolDown": duration("coolDown"), "maxAge": duration("maxAge"),
			"credentials": rapid.StringMatching(`[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?`).Draw(t, "credentials"),
			"ephemeral":   rapid.SampledFrom([]string{"true", "false", ""}).Draw(t, "ephemeral"),
		}
		switch strategy := rapid.SampledFrom([]string{"percentageRunnersIdle", "queuedSteps", "fixed"}).Draw(t, "strategy"); strategy {
		case "fixed":
			m["strategy"], m["count"] = strategy, fmt.Sprint(rapid.IntRange(0, 100).Draw(t, "count"))
		default:
			most := rapid.IntRange(1, 100).Draw(t, "max")
			down := rapid.Float64Range(1e-300, 0.5).Draw(t, "down")
			m["strategy"], m["max"], m["min"] = strategy, fmt.Sprint(most), fmt.Sprint(rapid.IntRange(1, most).Draw(t, "min"))
			m["scaleDownThreshold"], m["scaleUpThreshold"] = fmt.Sprintf("%.320f", down), fmt.Sprintf("%.20f", rapid.Float64Range(0.51, 1).Draw(t, "up"))
			m["scaleUpMultiplier"], m["scaleDownMultiplier"] = fmt.Sprintf("%.20f", rapid.Float64Range(1.0001, 100).Draw(t, "upBy")), fmt.Sprintf("%.320f", rapid.Float64Range(1e-300, 0.99).Draw(t, "downBy"))
			if rapid.Bool().Draw(t, "spared") {
				m["spare"] = fmt.Sprint(rapid.IntRange(0, 100).Draw(t, "spare"))
			}
			if strategy == "queuedSteps" {
				m["repositories"] = strings.Join(rapid.SliceOfN(place, 0, 5).Draw(t, "repositories"), ",")
			}
		}
		group, err := runnergroup.Parse(m)
		if err != nil {
			t.Fatal(err)
		}
		again, err := runnergroup.Parse(group.Metadata())
		if diff := cmp.Diff(group, again); err != nil || diff != "" {
			t.Fatalf("%v: %v, diff %s", group.Metadata(), err, diff)
		}
	})
}
