package peaks

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestProcessesCountFromTheirFirstCallToTheirLast(t *testing.T) {
	t.Parallel()
	at := func(second int) time.Time { return time.Unix(int64(second), 0) }
	for name, c := range map[string]struct {
		lives []Life
		want  map[string]int
	}{
		"one after the other": {[]Life{{"a", at(1), at(2)}, {"a", at(3), at(4)}}, map[string]int{"a": 1}},
		"at once":             {[]Life{{"a", at(1), at(3)}, {"a", at(2), at(4)}}, map[string]int{"a": 2}},
		"of two groups":       {[]Life{{"a", at(1), at(3)}, {"b", at(2), at(4)}}, map[string]int{"a": 1, "b": 1}},
		"not started":         {[]Life{{LabelSet: "a"}}, map[string]int{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(c.want, Alive(c.lives)); diff != "" {
				t.Error(diff)
			}
		})
	}
}
