package reaper

import (
	"testing"
	"time"

	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/policy"
)

func TestHowRunnersAreReplaced(t *testing.T) {
	day := aged(24*time.Hour + time.Second)
	for name, c := range map[string]struct {
		settings  map[string]string
		hold      string
		reason    policy.Reason
		effective int
		members   []fleet.Member
		want      []string
	}{
		"the oldest of the outdated first":    {effective: 2, members: []fleet.Member{one("a", fleet.Idle, outdated), one("b", fleet.Idle, outdated, aged(2*time.Hour))}, want: []string{"replace b: Outdated"}},
		"one too old":                         {effective: 1, members: []fleet.Member{one("a", fleet.Idle, day)}, want: []string{"replace a: MaxAge"}},
		"maxAge is off":                       {settings: map[string]string{"maxAge": "0"}, effective: 1, members: []fleet.Member{one("a", fleet.Idle, day)}},
		"an idle ephemeral one that was used": {settings: map[string]string{"ephemeral": "true"}, effective: 1, members: []fleet.Member{one("a", fleet.Idle, used)}, want: []string{"replace a: Ephemeral"}},
		"none while another comes":            {effective: 2, members: []fleet.Member{one("a", fleet.Idle, outdated), one("b", fleet.Starting)}},
		"none while another goes":             {effective: 2, members: []fleet.Member{one("a", fleet.Idle, outdated), one("b", fleet.DrainingBusy, disabled)}},
		"a cordoned one holds up nothing":     {effective: 2, members: []fleet.Member{one("a", fleet.Idle, outdated), one("b", fleet.Draining)}, want: []string{"replace a: Outdated"}},
		"a busy one is left to its step":      {effective: 1, members: []fleet.Member{one("a", fleet.Busy, outdated)}},
		"its successor is not there yet":      {effective: 1, members: []fleet.Member{one("a", fleet.Replaced, outdated)}},
		"its successor starts":                {effective: 1, members: []fleet.Member{one("a", fleet.Replaced, outdated), one("b", fleet.Starting)}},
		"its successor is online":             {effective: 1, members: []fleet.Member{one("a", fleet.Replaced, outdated), one("b", fleet.Idle)}, want: []string{"disable a: Outdated"}},
		"max leaves no room":                  {settings: map[string]string{"max": "1"}, effective: 1, members: []fleet.Member{one("a", fleet.Replaced, outdated)}, want: []string{"disable a: Outdated"}},
		"fixed leaves no room either":         {settings: map[string]string{"strategy": "fixed", "count": "1"}, effective: 1, members: []fleet.Member{one("a", fleet.Replaced, outdated)}, want: []string{"disable a: Outdated"}},
		"the scope leaves no room":            {reason: policy.ReasonRunnerLimit, effective: 1, members: []fleet.Member{one("a", fleet.Replaced, outdated)}, want: []string{"disable a: Outdated"}},
		"an ephemeral one stays all the same": {settings: map[string]string{"ephemeral": "true", "max": "1", "spare": "0"}, effective: 1, members: []fleet.Member{one("a", fleet.Replaced, used)}},
		"its ScaledJob is again as it was":    {effective: 1, members: []fleet.Member{one("a", fleet.Replaced)}, want: []string{"keep a: "}},
		"the ScaledJob is paused":             {hold: "paused", effective: 1, members: []fleet.Member{one("a", fleet.Idle, outdated)}},
		"nobody can stop it":                  {effective: 1, members: []fleet.Member{one("a", fleet.Idle, outdated, detached)}},
	} {
		t.Run(name, func(t *testing.T) {
			s := seen(t, c.settings, c.members...)
			s.group.Hold = c.hold
			d := decided(s, c.effective)
			d.Reason = c.reason
			check(t, knowing().renew(s, d), c.want...)
		})
	}
}
