package reaper

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"bitbucket-runner-scaler/externalscaler/fleet"
)

func TestASimulationIsToldWhatTheFirstRuleWants(t *testing.T) {
	for name, c := range map[string]struct {
		settings  map[string]string
		effective int
		members   []fleet.Member
		want      []Retirement
	}{
		"surplus":              {effective: 1, members: []fleet.Member{one("a", fleet.Idle), one("b", fleet.Busy)}, want: []Retirement{{"a", Disable}}},
		"nothing":              {effective: 2, members: []fleet.Member{one("a", fleet.Idle), one("b", fleet.Busy)}},
		"used, before surplus": {map[string]string{"ephemeral": "true"}, 1, []fleet.Member{one("a", fleet.Busy, used), one("b", fleet.Idle), one("c", fleet.Idle)}, []Retirement{{"a", Disable}}},
		"the last used one":    {map[string]string{"ephemeral": "true"}, 1, []fleet.Member{one("a", fleet.Idle, used)}, []Retirement{{"a", Replace}}},
		"no longer outdated":   {effective: 1, members: []fleet.Member{one("a", fleet.Replaced)}, want: []Retirement{{"a", Keep}}},
	} {
		s := seen(t, c.settings, c.members...)
		if diff := cmp.Diff(c.want, Retire(s.now, s.group, decided(s, c.effective))); diff != "" {
			t.Errorf("%s: (-want +got) %s", name, diff)
		}
	}
}
