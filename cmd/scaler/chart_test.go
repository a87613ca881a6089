package main

import (
	"context"
	"encoding/json"
	"flag"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

var update = flag.Bool("update", false, "write the flags into the schema of the chart's values")

const valuesSchema = "../../deploy/chart/values.schema.json"

// flagPattern matches what extraArgs of the chart may contain: --switch, --switch=true or
// --flag=value for each flag that there is.
func flagPattern() string {
	var switches, others []string
	newCommand(empty, func(context.Context, config) error { return nil }).Flags().VisitAll(func(f *pflag.Flag) {
		switch {
		case f.Name == "version" || f.Name == "help": // the scaler would exit
		case f.NoOptDefVal == "true":
			switches = append(switches, f.Name)
		default:
			others = append(others, f.Name)
		}
	})
	return "^--((" + strings.Join(switches, "|") + ")(=(true|false))?|(" + strings.Join(others, "|") + ")=.*)$"
}

func TestTheChartKnowsEveryFlag(t *testing.T) {
	text, err := os.ReadFile(valuesSchema)
	if err != nil {
		t.Fatal(err)
	}
	want, err := json.Marshal(flagPattern())
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^( *"flag": \{.*"pattern": )".*"(\},)$`)
	found := line.FindSubmatch(text)
	if found == nil {
		t.Fatalf("%s has no line that matches %s", valuesSchema, line)
	}
	current := line.ReplaceAll(text, append(append([]byte("${1}"), strings.ReplaceAll(string(want), "$", "$$")...), "${2}"...))
	if *update {
		if err := os.WriteFile(valuesSchema, current, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if !*update && string(current) != string(text) {
		t.Errorf("the flags in %s are not current: run make generate; want the pattern %s", valuesSchema, want)
	}
}

func TestTheChartTakesFlagsInTheFormOfTheirValues(t *testing.T) {
	pattern := regexp.MustCompile(flagPattern())
	for given, want := range map[string]bool{
		"--poll-interval=2m": true, "--dry-run": true, "--page=false": true, "--scaler-address=": true,
		"--poll-interval": false, "--poll-interval 2m": false, "-poll-interval=2m": false, "--pol-interval=2m": false, "--page=no": false, "--version": false, "surplus": false,
	} {
		if got := pattern.MatchString(given); got != want {
			t.Errorf("%s: taken %v, want %v", given, got, want)
		}
	}
}
