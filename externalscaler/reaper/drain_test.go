package reaper

import (
	"testing"

	"bitbucket-runner-scaler/externalscaler/fleet"
)

func drained(m *fleet.Member) { m.Job.Drain = true }

func TestWhichRunnersAreDrainedOnRequest(t *testing.T) {
	for name, c := range map[string]struct {
		least   string
		members []fleet.Member
		want    []string
	}{
		"others stay":                       {"1", []fleet.Member{one("a", fleet.Busy, drained), one("b", fleet.Idle, drained), one("c", fleet.Busy)}, []string{"disable b: Drained", "disable a: Drained"}},
		"the last one stays for renew":      {"0", []fleet.Member{one("a", fleet.Idle, drained)}, nil},
		"the minimum stays, the idle first": {"2", []fleet.Member{one("a", fleet.Busy, drained), one("b", fleet.Idle, drained), one("c", fleet.Idle)}, []string{"disable b: Drained"}},
		"one that starts is no other":       {"1", []fleet.Member{one("a", fleet.Idle, drained), one("b", fleet.Starting)}, nil},
		"nobody asked":                      {"1", []fleet.Member{one("a", fleet.Idle), one("b", fleet.Idle)}, nil},
		"it is disabled already":            {"1", []fleet.Member{one("a", fleet.DrainingBusy, drained), one("b", fleet.Idle)}, nil},
		"a Job without a runner":            {"1", []fleet.Member{one("a", fleet.Pending, noRunner, drained), one("b", fleet.Idle)}, []string{"delete unregistered a: Drained"}},
	} {
		t.Run(name, func(t *testing.T) {
			settings := map[string]string{"min": c.least}
			if c.least == "0" {
				settings["strategy"] = "queuedSteps"
			}
			check(t, knowing().drainAsked(seen(t, settings, c.members...)), c.want...)
		})
	}
}
