package flags

import (
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

// values are the values of one flag of each kind.
type values struct {
	text, choice string
	list         []string
	wait         time.Duration
	number       int
	on           bool
}

// parsed parses a command line with one flag of each kind.
func parsed(args []string, environment map[string]string) (values, error) {
	v := values{on: true}
	set := New(pflag.NewFlagSet("t", pflag.ContinueOnError), "P", func(name string) (string, bool) { value, ok := environment[name]; return value, ok })
	set.StringVar(&v.text, "some-text", "text", "")
	set.StringArrayVarP(&v.list, "filename", "f", nil, "")
	set.Choice(&v.choice, "choice", "c", "a", "", "a", "b")
	set.Duration(&v.wait, "wait", time.Minute, time.Nanosecond, "")
	set.Int(&v.number, "number", 3, 1, "")
	set.Bool(&v.on, "on", "", "")
	set.Bool(new(bool), "fail-on", "", "")
	if err := set.Parse(args); err != nil {
		return v, Explain(set.FlagSet, err)
	}
	set.Read()
	set.NoArguments(set.Args())
	return v, set.Err()
}

func TestFlagsWinOverTheEnvironmentAndBothOverDefaults(t *testing.T) {
	v, err := parsed([]string{"--wait", "2s", "-c", "b"}, map[string]string{
		"P_WAIT": "never", "P_SOME_TEXT": "from P", "P_NUMBER": "", "P_ON": "false", "P_HELP": "true", "SOME_TEXT": "no",
	})
	if err != nil {
		t.Fatal(err)
	}
	if v.text != "from P" || v.choice != "b" || v.wait != 2*time.Second || v.number != 3 || v.on {
		t.Errorf("got %+v", v)
	}
	if v, err = parsed(nil, nil); err != nil || v.text != "text" || v.choice != "a" || v.wait != time.Minute || v.number != 3 || !v.on {
		t.Errorf("defaults: got %+v, %v", v, err)
	}
}

func TestEveryFaultIsReportedAtOnce(t *testing.T) {
	_, err := parsed([]string{"--wait", "0s", "--choice=c", "surplus", "-fail-on", "--on=perhaps"}, map[string]string{"P_NUMBER": "many"})
	if err == nil {
		t.Fatal("got nil")
	}
	for _, want := range []string{
		`--wait: "0s", want a positive duration such as 1m0s`, `--choice: "c", want a or b`, `arguments: ["surplus"], want none`,
		"-fail-on: want two dashes, --fail-on", `--on: "perhaps", want true or false`, `--number: "many", want a whole number, at least 1`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("does not contain %s:\n%v", want, err)
		}
	}
}

func TestUnknownFlagsSuggestTheNearestOne(t *testing.T) {
	for args, want := range map[string]string{
		"--nubmer 3":   "unknown flag --nubmer, did you mean --number?",
		"--file x":     "unknown flag --file, did you mean --filename?",
		"-wait=3s":     "unknown flag -wait, did you mean --wait?",
		"--some_text=": "unknown flag --some_text, did you mean --some-text?",
		"--xx":         "unknown flag --xx",
		"--wait":       "flag needs an argument: --wait",
	} {
		if _, err := parsed(strings.Fields(args), nil); err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", args, err, want)
		}
	}
}
