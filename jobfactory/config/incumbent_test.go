package config_test

import (
	"os"
	"strings"
	"testing"

	"bitbucket-runner-scaler/externalscaler/policy"
	"bitbucket-runner-scaler/jobfactory/config"
)

// older is good in the older form of Atlassian's runners-autoscaler.
const older = "config:\n- name: a\n  workspace: acme\n  labels: [x]\n"

func TestManualModeIsAFixedNumberOfRunners(t *testing.T) {
	for name, test := range map[string]struct {
		file string
		want int
	}{
		"count given":     {older + "  type: manual\n  parameters: {runners_count: 3}\n", 3},
		"in camelCase":    {older + "  type: manual\n  parameters: {runnersCount: 3}\n", 3},
		"no runners":      {older + "  type: manual\n  parameters: {runners_count: 0}\n", 0},
		"count not given": {older + "  type: manual\n", 1},
		"as a strategy":   {good + "  strategy: manual\n  parameters: {runners_count: 4}\n", 4},
		"strategy fixed":  {good + "  strategy: fixed\n  parameters: {runners_count: 5}\n", 5},
	} {
		t.Run(name, func(t *testing.T) {
			file, err := config.Read([]byte(test.file))
			if err != nil {
				t.Fatal(err)
			}
			if got := file.Groups[0].Group.Rules; got.Strategy != policy.Fixed || got.Count != test.want {
				t.Errorf("strategy %s, count %d; want fixed, %d", got.Strategy, got.Count, test.want)
			}
		})
	}
}

func TestFaultsOfTheOlderFormHaveItsSpellingAndLines(t *testing.T) {
	for name, test := range map[string]struct{ file, want string }{
		"a parameter":        {older + "  parameters:\n    scaleUpThreshold: 2\n", `line 6: config[0].parameters.scaleUpThreshold: "2", want`},
		"runners_count":      {older + "  type: manual\n  parameters:\n    runners_count: many\n", `line 7: config[0].parameters.runners_count: "many", want`},
		"runnersCount":       {older + "  type: manual\n  parameters: {runnersCount: 101}\n", `config[0].parameters.runnersCount: "101", want`},
		"of autoscaling":     {older + "  type: autoscaling\n  parameters: {runners_count: 1}\n", `config[0].parameters.runners_count: "1", want type manual, or leave the key out`},
		"both counts":        {older + "  type: manual\n  parameters: {runners_count: 1, count: 1}\n", `want one of count and runners_count, not both`},
		"both spellings":     {older + "  nodeSelector: {a: b}\n  node_selector: {a: b}\n", `line 6: config[0]: "node_selector", want each key once`},
		"type":               {older + "  type: automatic\n", `line 5: config[0].type: "automatic", want manual or autoscaling`},
		"type and strategy":  {older + "  type: manual\n  strategy: queuedSteps\n", `config[0].type: "manual", want the type of strategy queuedSteps`},
		"groups and config":  {good + older, `line 6: config: "a list", want one of groups and config, not both`},
		"an amount":          {older + "  dockerResources: {limits: {cpu: many}}\n", `config[0].dockerResources.limits.cpu: "many", want an amount`},
		"os against arch":    {good + "  os: linux\n  architecture: arm64\n", `groups[0].os: "linux", want linux.arm64, as architecture arm64 requires`},
		"os":                 {good + "  os: windows\n", `line 5: groups[0].os: "windows", want linux, linux.arm64 or linux.shell`},
		"an empty parameter": {good + "  parameters: {max: ''}\n", `groups[0].parameters.max: "", want a value, or leave the key out`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := config.Read([]byte(test.file))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v\nwant %s", err, test.want)
			}
		})
	}
}

func TestEveryConstantHasAnEffectOrANote(t *testing.T) {
	data, err := os.ReadFile("testdata/older-form.yaml")
	if err != nil {
		t.Fatal(err)
	}
	file, err := config.Read(data)
	if err != nil {
		t.Fatal(err)
	}
	notes := strings.Join(file.Notes, "\n")
	for _, want := range []string{
		"constants is indented below config", "default_sleep_time_runner_setup has no effect: ", "default_sleep_time_runner_delete has no effect: ",
		"runner_api_polling_interval has no effect: the scaler's --poll-interval is how often",
	} {
		if !strings.Contains(notes, want) {
			t.Errorf("no note %q in:\n%s", want, notes)
		}
	}
	if len(file.Notes) != 4 {
		t.Errorf("%d notes, want 4, none about constants with an effect", len(file.Notes))
	}
}
