package condition

import "testing"

func TestWhichNamesAPatternMatches(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pattern, text string
		want          bool
	}{
		{"main", "main", true}, {"main", "mains", false},
		{"*", "main", true}, {"*", "a/b", false}, {"**", "a/b", true},
		{"feature/*", "feature/x", true}, {"feature/*", "feature/x/y", false}, {"feature/*", "feature", false},
		{"feature/**", "feature/x/y", true}, {"feature/**", "feature", true}, {"feature/**", "features", false},
		{"{main,release/*}", "release/1", true}, {"{main,release/*}", "main", true}, {"{main,release/*}", "x", false},
		{"v{1,2}.{x,y{1,2}}", "v2.y2", true}, {"v{1,2}.{x,y{1,2}}", "v3.x", false}, {"a{b", "a{b", true},
		{"v?", "v1", true}, {"v?", "v", false}, {"a?b", "a/b", false},
		{"**/*.go", "main.go", true}, {"**/*.go", "a/b/main.go", true}, {"**/*.go", "a/b/main.gox", false},
		{"src/**/x", "src/x", true}, {"src/**/x", "src/a/b/x", true}, {"src/**/x", "srcx", false},
		{"*-x-*", "a-x-b", true}, {"*-x-*", "a-x/b", false}, {"**a*b", "x/aab", true},
		{"a*b*c*d*e*f*g*h", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false},
	} {
		if got := Match(c.pattern, c.text); got != c.want {
			t.Errorf("%q matches %q: %v, want %v", c.pattern, c.text, got, c.want)
		}
	}
}

func TestTheMostSpecificPatternDecides(t *testing.T) {
	t.Parallel()
	patterns := []string{"**", "*", "feature/*", "feature/bb-*", "feature/bb-12-*", "main"}
	for name, want := range map[string]int{
		"main": 5, "x": 1, "x/y": 0, "feature/a": 2, "feature/bb-1": 3, "feature/bb-12-x": 4, "feature/a/b": 0,
	} {
		if got := Best(patterns, name); got != want {
			t.Errorf("%s: pattern %d, want %d", name, got, want)
		}
	}
	if got := Best([]string{"a", "b*"}, "c"); got != -1 {
		t.Errorf("pattern %d matches, want none", got)
	}
}

func TestWhichExpressionsHold(t *testing.T) {
	t.Parallel()
	variables := map[string]string{"BITBUCKET_BRANCH": "feature/x", "critical": "0", "ready": "true"}
	for expression, want := range map[string]bool{
		`BITBUCKET_BRANCH == "feature/x"`:                       true,
		`$BITBUCKET_BRANCH != 'feature/x'`:                      false,
		`glob(BITBUCKET_BRANCH, "feature/*")`:                   true,
		`critical == 0 && ready`:                                true,
		`critical > 0 || !(ready && nothing == "")`:             false,
		`critical < 10`:                                         true,
		`critical >= 1 || BITBUCKET_BRANCH == "main" || !ready`: false,
		`true`: true,
	} {
		if got, err := Evaluate(expression, variables); err != nil || got != want {
			t.Errorf("%s: %v, %v, want %v", expression, got, err, want)
		}
	}
	for _, expression := range []string{``, `a ==`, `a == "b`, `(a`, `a b`, `glob(a)`, `a =~ b`, `&& a`, `some.function(a)`} {
		if got, err := Evaluate(expression, variables); err == nil {
			t.Errorf("%s: %v, want an error", expression, got)
		}
	}
}

func FuzzEvaluate(f *testing.F) {
	f.Add(`a == "b" && !(glob(c, "d*"))`, "**a*{b,c}")
	f.Fuzz(func(_ *testing.T, expression, pattern string) {
		_, _ = Evaluate(expression, map[string]string{"a": "b"})
		_ = Match(pattern, expression)
	})
}
