package plan

import (
	"strings"
	"testing"
	"time"
)

func TestRulesDecideHowStepsGo(t *testing.T) {
	t.Parallel()
	yes, no := true, false
	rules, err := New(Plan{Duration: "20s", Rules: []Rule{
		{Step: "Deploy*", Condition: &no, Result: Failed, Count: 2},
		{Repository: "acme/web", Duration: "1m"},
		{Step: "Deploy*", Condition: &yes, Result: Error},
	}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		repository, step string
		sleeps           bool
		want             time.Duration
	}{{"acme/app", "Build", true, time.Second}, {"acme/app", "Build", false, 20 * time.Second}, {"acme/web", "Build", true, time.Minute}} {
		if got := rules.Duration(c.repository, c.step, time.Second, c.sleeps); got != c.want {
			t.Errorf("%+v takes %s", c, got)
		}
	}
	if got := (Rules{}).Duration("acme/app", "Build", time.Second, true); got != time.Second {
		t.Errorf("without a plan: %s", got)
	}
	for i, want := range []string{Failed, Failed, Error, Error} {
		if got := rules.Result("acme/app", "Deploy to test"); got != want {
			t.Errorf("result %d: %s, want %s", i, got, want)
		}
	}
	if got := rules.Result("acme/app", "Build"); got != Passed {
		t.Errorf("a step without a rule: %s", got)
	}
	if holds, given := rules.Condition("acme/app", "Deploy"); holds || !given {
		t.Errorf("condition %v, %v, want the first rule's", holds, given)
	}
	if _, given := rules.Condition("acme/app", "Build"); given {
		t.Error("the plan decides about a step without a rule")
	}
}

func TestWrongPlansAreRefused(t *testing.T) {
	t.Parallel()
	_, err := New(Plan{Duration: "x", Rules: []Rule{{Duration: "-1s", Result: "GOOD", Probability: 2, Count: -1}}})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{`duration: "x"`, `rules[0]: duration: "-1s"`, `result: "GOOD"`, "probability: 2", "count: -1"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
}
