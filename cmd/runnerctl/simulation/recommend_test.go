package simulation

import (
	"strings"
	"testing"

	"bitbucket-runner-scaler/externalscaler/runnergroup"
	"bitbucket-runner-scaler/externalscaler/simulate"
)

func TestARecommendedConfigurationKeepsTheTimeWindows(t *testing.T) {
	group, err := runnergroup.Parse(map[string]string{
		"workspace": "acme", "labels": "builds", "schedules": `[{"start":"0 7 * * *","end":"0 19 * * *","timezone":"Europe/Berlin","min":4}]`,
	})
	if err != nil {
		t.Fatal(err)
	}
	text, err := configuration([]simulate.Group{{Namespace: "ns", Name: "builds", Group: group}})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"schedules:", "start: 0 7 * * *", "end: 0 19 * * *", "timezone: Europe/Berlin", "min: 4"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}
