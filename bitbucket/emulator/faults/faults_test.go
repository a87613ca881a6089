package faults

import "testing"

func TestGlobs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pattern, text string
		want          bool
	}{
		{"*", "", true}, {"a*", "abc", true}, {"*c", "abc", true}, {"a*c", "abc", true}, {"a*b*c", "a/b/b/c", true},
		{"a*c*", "ab", false}, {"ab*bc", "abc", false}, {"a", "ab", false}, {"a**b", "ab", true},
	} {
		if got := glob(c.pattern, c.text); got != c.want {
			t.Errorf("glob(%q, %q) = %v", c.pattern, c.text, got)
		}
	}
}
