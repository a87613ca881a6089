package pipelines

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestWhichRunnersServeAStep(t *testing.T) {
	for name, c := range map[string]struct {
		step, runner string
		want         bool
	}{
		"equal":                              {"self.hosted linux x", "self.hosted linux x", true},
		"fewer labels than the runner":       {"self.hosted", "self.hosted linux x y", true},
		"the platform is implied":            {"self.hosted x", "self.hosted linux x", true},
		"not on arm64":                       {"self.hosted x", "self.hosted linux.arm64 x", false},
		"not on a shell":                     {"self.hosted x", "self.hosted linux.shell x", false},
		"not on Windows":                     {"self.hosted", "self.hosted windows", false},
		"not on macOS":                       {"self.hosted", "self.hosted macos", false},
		"arm64 on arm64":                     {"self.hosted linux.arm64", "self.hosted linux.arm64 x", true},
		"arm64 not on amd64":                 {"self.hosted linux.arm64", "self.hosted linux x", false},
		"a shell on a shell":                 {"self.hosted linux.shell", "self.hosted linux.shell", true},
		"a label that the runner lacks":      {"self.hosted x y", "self.hosted linux x", false},
		"two platforms":                      {"self.hosted linux linux.arm64", "self.hosted linux.arm64", false},
		"without self.hosted":                {"x", "self.hosted linux x", true},
		"a label twice":                      {"self.hosted x x", "self.hosted linux x", true},
		"Atlassian's own runners":            {"", "self.hosted linux", false},
		"a label is compared as it is":       {"self.hosted X", "self.hosted linux x", false},
		"part of a label is another label":   {"self.hosted my", "self.hosted linux my.group", false},
		"a runner whose platform is unnamed": {"self.hosted x", "self.hosted x", true},
	} {
		if got := Labels(strings.Fields(c.step)).ServedBy(strings.Fields(c.runner)); got != c.want {
			t.Errorf("%s: %q on %q: %v, want %v", name, c.step, c.runner, got, c.want)
		}
	}
}

func TestTheNearestRunnerIsNamed(t *testing.T) {
	runners := []Labels{Runner(Linux, "builds"), Runner(Linux, "deploy.app", "large"), Runner("linux.arm64", "builds")}
	none := map[string]string{}
	for name, c := range map[string]struct {
		step string
		want Hint
	}{
		"a misspelt label":      {"self.hosted bulds", Hint{0, Labels{"bulds"}, map[string]string{"bulds": "builds"}}},
		"capitals":              {"self.hosted Builds", Hint{0, Labels{"Builds"}, map[string]string{"Builds": "builds"}}},
		"on another platform":   {"self.hosted linux.arm64 bulds", Hint{2, Labels{"bulds"}, map[string]string{"bulds": "builds"}}},
		"one of two is missing": {"self.hosted large gpu", Hint{1, Labels{"gpu"}, none}},
		"only the platform":     {"self.hosted linux.arm64 large", Hint{1, Labels{"linux.arm64"}, none}},
		"an implied platform":   {"self.hosted windows deploy.ap", Hint{1, Labels{"windows", "deploy.ap"}, map[string]string{"deploy.ap": "deploy.app"}}},
		"nothing in common":     {"self.hosted gpu", Hint{Index: -1}},
		"a very long label":     {"self.hosted " + strings.Repeat("b", 1000), Hint{Index: -1}},
	} {
		if diff := cmp.Diff(c.want, Nearest(strings.Fields(c.step), runners)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestARunnerWithMoreLabelsServesAtLeastTheSameSteps(t *testing.T) {
	label := rapid.SampledFrom([]string{SelfHosted, Linux, "linux.arm64", "linux.shell", "windows", "macos", "a", "b", "c"})
	rapid.Check(t, func(t *rapid.T) {
		step := Labels(rapid.SliceOfN(label, 1, 5).Draw(t, "step"))
		custom := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c"}), 0, 3).Draw(t, "custom")
		small := Runner(rapid.SampledFrom(platforms).Draw(t, "platform"), custom...)
		large := append(append(Labels{}, small...), rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "more"))
		if step.ServedBy(small) && !step.ServedBy(large) {
			t.Fatalf("%v serves %v, and %v does not", small, step, large)
		}
		if hint := Nearest(step, []Labels{small}); step.ServedBy(small) && len(hint.Missing) > 0 {
			t.Fatalf("%v serves %v and lacks %v", small, step, hint.Missing)
		}
	})
}
