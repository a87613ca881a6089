package runnergroup_test

import (
	"errors"
	"maps"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"bitbucket-runner-scaler/externalscaler/policy"
	"bitbucket-runner-scaler/externalscaler/runnergroup"
)

// with returns minimal valid metadata with changes. An empty value removes a key.
func with(changes map[string]string) map[string]string {
	m := map[string]string{"workspace": "acme", "labels": "builds"}
	maps.Copy(m, changes)
	maps.DeleteFunc(m, func(_, v string) bool { return v == "" })
	return m
}

func TestDefaults(t *testing.T) {
	got, err := runnergroup.Parse(with(map[string]string{"scalerAddress": "x:1", "enableTLS": "true"}))
	want := runnergroup.Group{
		Workspace: "acme", Labels: []string{"builds"}, OS: "linux", MaxAge: 24 * time.Hour, Credentials: "default",
		Rules: policy.Rules{
			Strategy: policy.PercentageRunnersIdle, Min: 1, Max: 10, ScaleUpThreshold: 0.5, ScaleDownThreshold: 0.2,
			ScaleUpMultiplier: 1.5, ScaleDownMultiplier: 0.5, CoolDown: 300 * time.Second,
		},
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("err %v, diff %s", err, diff)
	}
}

func TestEveryKeyIsParsed(t *testing.T) {
	got, err := runnergroup.Parse(map[string]string{
		"workspace": "{11111111-1111-4111-8111-111111111111}", "labels": " my.group , b,my.group ", "os": "linux.arm64",
		"strategy": "queuedSteps", "min": "2", "max": "20", "scale_up_threshold": "0.8", "scaleDownThreshold": "0.1",
		"scale_up_multiplier": "2", "scaleDownMultiplier": "0.25", "cool_down": "60", "ephemeral": "true", "maxAge": "0",
		"repositories": "app, {22222222-2222-4222-8222-222222222222}", "credentials": "team-a",
	})
	want := runnergroup.Group{
		Workspace: "{11111111-1111-4111-8111-111111111111}", Labels: []string{"b", "my.group"}, OS: "linux.arm64",
		Repositories: []string{"app", "{22222222-2222-4222-8222-222222222222}"}, Credentials: "team-a",
		Rules: policy.Rules{
			Strategy: policy.QueuedSteps, Min: 2, Max: 20, Spare: 1, ScaleUpThreshold: 0.8, ScaleDownThreshold: 0.1,
			ScaleUpMultiplier: 2, ScaleDownMultiplier: 0.25, CoolDown: time.Minute, Ephemeral: true,
		},
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("err %v, diff %s", err, diff)
	}
	if labels := got.RunnerLabels("keda.k8s.0123abcd"); !cmp.Equal(labels, []string{"b", "keda.k8s.0123abcd", "linux.arm64", "my.group", "self.hosted"}) {
		t.Errorf("runner labels: %q", labels)
	}
}

func TestFixedTakesACount(t *testing.T) {
	got, err := runnergroup.Parse(with(map[string]string{"strategy": "fixed", "count": "0"}))
	if err != nil || got.Rules.Strategy != policy.Fixed || got.Rules.Count != 0 || got.Rules.Max != 0 {
		t.Errorf("got %+v, %v", got.Rules, err)
	}
}

func TestFaultsNameTheKeyAndTheAcceptedValues(t *testing.T) {
	for name, c := range map[string]struct {
		change map[string]string
		want   []string
	}{
		"no workspace":              {map[string]string{"workspace": ""}, []string{"workspace: missing or empty"}},
		"blank workspace":           {map[string]string{"workspace": "  "}, []string{"workspace: missing or empty"}},
		"workspace form":            {map[string]string{"workspace": "a/b"}, []string{`workspace: "a/b", want a slug`}},
		"repository form":           {map[string]string{"repository": "{1234}"}, []string{`repository: "{1234}", want a slug, or a {uuid}`}},
		"no labels":                 {map[string]string{"labels": ""}, []string{"labels: missing"}},
		"label with capitals":       {map[string]string{"labels": "My.Group"}, []string{`labels: "My.Group", want lower-case`}},
		"label too long":            {map[string]string{"labels": strings.Repeat("a", 51)}, []string{"labels: ", "at most 50"}},
		"too many labels":           {map[string]string{"labels": "a,b,c,d,e,f,g,h,i,j"}, []string{"at most 9 custom labels, of which there are 10"}},
		"label of another system":   {map[string]string{"os": "linux.arm64", "labels": "linux,x"}, []string{`labels: "linux", want the label of the group's os, which is linux.arm64`}},
		"label of the system":       {map[string]string{"labels": "self.hosted,linux"}, []string{`"self.hosted,linux", want a custom label too`}},
		"our label":                 {map[string]string{"labels": "keda.k8s"}, []string{`"keda.k8s", want no label that begins with keda.`}},
		"os":                        {map[string]string{"os": "windows"}, []string{`os: "windows", want linux, linux.arm64 or linux.shell`}},
		"strategy":                  {map[string]string{"strategy": "best"}, []string{`strategy: "best", want percentageRunnersIdle`}},
		"min above max":             {map[string]string{"min": "11"}, []string{`min: "11", want at most max, which is 10`}},
		"min 0 with the ratio":      {map[string]string{"min": "0"}, []string{`min: "0", want at least 1`}},
		"max 0":                     {map[string]string{"max": "0"}, []string{`max: "0", want at least 1`}},
		"max 101":                   {map[string]string{"max": "101"}, []string{`max: "101", want a whole number from 0 to 100`}},
		"negative":                  {map[string]string{"min": "-1"}, []string{`min: "-1"`}},
		"signed":                    {map[string]string{"min": "+1"}, []string{`min: "+1"`}},
		"underscored":               {map[string]string{"max": "1_0"}, []string{`max: "1_0"`}},
		"NaN":                       {map[string]string{"scaleUpThreshold": "NaN"}, []string{`scaleUpThreshold: "NaN", want a decimal`}},
		"infinite":                  {map[string]string{"scaleUpMultiplier": "Inf"}, []string{`scaleUpMultiplier: "Inf"`}},
		"out of range":              {map[string]string{"scaleUpMultiplier": "1e309"}, []string{`scaleUpMultiplier: "1e309"`}},
		"hexadecimal":               {map[string]string{"scaleDownMultiplier": "0x1p-2"}, []string{`scaleDownMultiplier: "0x1p-2"`}},
		"threshold 0":               {map[string]string{"scaleDownThreshold": "0"}, []string{"scaleDownThreshold"}},
		"thresholds crossed":        {map[string]string{"scaleDownThreshold": "0.5"}, []string{`scaleDownThreshold: "0.5", want less than scaleUpThreshold, which is 0.5`}},
		"multiplier 1":              {map[string]string{"scaleUpMultiplier": "1"}, []string{"scaleUpMultiplier"}},
		"down multiplier 1":         {map[string]string{"scaleDownMultiplier": "1.0"}, []string{"scaleDownMultiplier"}},
		"duration":                  {map[string]string{"coolDown": "5 minutes"}, []string{`coolDown: "5 minutes", want a duration such as`}},
		"negative duration":         {map[string]string{"maxAge": "-1h"}, []string{"maxAge"}},
		"boolean":                   {map[string]string{"ephemeral": "yes"}, []string{`ephemeral: "yes", want true or false`}},
		"credentials":               {map[string]string{"credentials": "../other"}, []string{`credentials: "../other"`}},
		"repositories":              {map[string]string{"strategy": "queuedSteps", "repositories": "a b"}, []string{`repositories: "a b"`}},
		"no minimum with the ratio": {map[string]string{"min": "0"}, []string{`min: "0"`, "nothing else would ever ask for one"}},
		"look-ahead":                {map[string]string{"strategy": "queuedSteps", "lookAhead": "soon"}, []string{`lookAhead: "soon"`}},
		"look-ahead of the ratio":   {map[string]string{"lookAhead": "30s"}, []string{"lookAhead", "only with strategy queuedSteps"}},
		"repositories of the ratio": {map[string]string{"repositories": "app"}, []string{"repositories", "only with strategy queuedSteps"}},
		"unknown key":               {map[string]string{"minn": "1"}, []string{"minn: unknown key, did you mean min?"}},
		"unknown key, far":          {map[string]string{"completely.else": "1"}, []string{"completely.else: unknown key"}},
		"both spellings":            {map[string]string{"coolDown": "1m", "cool_down": "1m"}, []string{`given as "coolDown" and as "cool_down"`}},
		"snake case is named":       {map[string]string{"cool_down": "x"}, []string{`cool_down: "x"`}},
		"fixed with min":            {map[string]string{"strategy": "fixed", "count": "1", "min": "1"}, []string{`min: "1", want nothing`}},
		"fixed without count":       {map[string]string{"strategy": "fixed"}, []string{"count: missing"}},
		"count without fixed":       {map[string]string{"count": "1"}, []string{`count: "1", want only with strategy fixed`}},
		"many at once":              {map[string]string{"workspace": "", "labels": "A", "min": "x", "max": "y", "zzzzzz": "1"}, []string{"workspace", "labels", `min: "x"`, `max: "y"`, "zzzzzz"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := runnergroup.Parse(with(c.change))
			var invalid *runnergroup.InvalidError
			if !errors.As(err, &invalid) {
				t.Fatalf("got %v, want an InvalidError", err)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %q, want it to contain %q", err, want)
				}
			}
			if name != "many at once" && len(invalid.Faults) != 1 {
				t.Errorf("got %d faults, want one: %v", len(invalid.Faults), err)
			}
		})
	}
}

func TestLargeMetadataIsNotRepeatedInTheError(t *testing.T) {
	_, err := runnergroup.Parse(with(map[string]string{"labels": strings.Repeat("a", 10<<20)}))
	if err == nil || len(err.Error()) > 200 || !strings.Contains(err.Error(), "at most 65536") {
		t.Errorf("got %.300v", err)
	}
	_, err = runnergroup.Parse(with(map[string]string{"labels": strings.Repeat("A", 60<<10)}))
	if err == nil || len(err.Error()) > 500 {
		t.Errorf("got an error text of %d bytes", len(err.Error()))
	}
}

func TestMetadataRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := map[string]string{
			"workspace": rapid.StringMatching(`[a-z][a-z0-9_-]{0,20}`).Draw(t, "workspace"),
			"labels":    rapid.StringMatching(`q[a-z0-9.]{0,9}(,q[a-z0-9.]{1,9}){0,8}`).Draw(t, "labels"),
			"strategy":  rapid.SampledFrom([]string{"percentageRunnersIdle", "queuedSteps", "fixed"}).Draw(t, "strategy"),
			"coolDown":  rapid.SampledFrom([]string{"0", "300", "1h1m", "1500ms"}).Draw(t, "coolDown"),
			"ephemeral": rapid.SampledFrom([]string{"true", "false"}).Draw(t, "ephemeral"),
			"maxAge":    rapid.SampledFrom([]string{"0", "24h", "1h"}).Draw(t, "maxAge"),
		}
		if m["strategy"] == "fixed" {
			m["count"] = rapid.SampledFrom([]string{"0", "7", "100"}).Draw(t, "count")
		} else {
			m["min"], m["max"] = rapid.SampledFrom([]string{"1", "3"}).Draw(t, "min"), rapid.SampledFrom([]string{"10", "40"}).Draw(t, "max")
			m["spare"] = rapid.SampledFrom([]string{"0", "1", "2"}).Draw(t, "spare")
			m["scaleUpThreshold"] = rapid.SampledFrom([]string{"0.5", "0.75"}).Draw(t, "up")
		}
		group, err := runnergroup.Parse(m)
		if err != nil {
			t.Fatal(err)
		}
		again, err := runnergroup.Parse(group.Metadata())
		if diff := cmp.Diff(group, again); err != nil || diff != "" {
			t.Fatalf("%v: %v, diff %s", group.Metadata(), err, diff)
		}
		if !group.Equal(again) {
			t.Fatalf("%v is not equal to itself", group.Metadata())
		}
	})
}

// Groups that differ in any field are not equal.
func TestEqualComparesEveryField(t *testing.T) {
	for i := range reflect.TypeFor[runnergroup.Group]().NumField() {
		var a, b runnergroup.Group
		field := reflect.ValueOf(&b).Elem().Field(i)
		name := reflect.TypeFor[runnergroup.Group]().Field(i).Name
		if name == "Open" || name == "Written" {
			continue // they follow from the others and the time
		}
		switch field.Kind() {
		case reflect.String:
			field.SetString("x")
		case reflect.Int64:
			field.SetInt(1)
		case reflect.Slice:
			field.Set(reflect.MakeSlice(field.Type(), 1, 1))
		case reflect.Struct:
			field.FieldByName("Max").SetInt(1)
		default:
			t.Fatalf("%s: the test does not support this kind", name)
		}
		if a.Equal(b) {
			t.Errorf("%s is not compared", name)
		}
	}
}

func TestSameRunners(t *testing.T) {
	a := runnergroup.Group{OS: "linux", Labels: []string{"a", "b"}}
	for name, c := range map[string]struct {
		b    runnergroup.Group
		want bool
	}{
		"equal":        {runnergroup.Group{OS: "linux", Labels: []string{"a", "b"}}, true},
		"other labels": {runnergroup.Group{OS: "linux", Labels: []string{"a"}}, false},
		"other system": {runnergroup.Group{OS: "linux.arm64", Labels: []string{"a", "b"}}, false},
	} {
		if got := a.SameRunners(c.b); got != c.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("acme", "builds", "min", "1")
	f.Add("", "A,,", "cool_down", "1e309")
	f.Fuzz(func(t *testing.T, workspace, labels, key, value string) {
		group, err := runnergroup.Parse(map[string]string{"workspace": workspace, "labels": labels, key: value})
		if err != nil {
			var invalid *runnergroup.InvalidError
			if !errors.As(err, &invalid) || len(invalid.Faults) == 0 {
				t.Fatalf("got %v, want faults", err)
			}
			return
		}
		again, err := runnergroup.Parse(group.Metadata())
		if diff := cmp.Diff(group, again); err != nil || diff != "" {
			t.Fatalf("%v: %v, diff %s", group.Metadata(), err, diff)
		}
	})
}
