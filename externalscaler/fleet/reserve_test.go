package fleet

import (
	"fmt"
	"slices"
	"testing"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/policy"
	"bitbucket-runner-scaler/externalscaler/scope"
)

func TestSharesOfTheFreeSlots(t *testing.T) {
	for name, c := range map[string]struct {
		free        int
		needs, want []int
	}{
		"enough for all":              {100, []int{10, 20}, []int{10, 20}},
		"evenly if there are too few": {100, []int{80, 80}, []int{50, 50}},
		"what one leaves":             {100, []int{10, 80, 80}, []int{10, 45, 45}},
		"an odd one":                  {5, []int{3, 3}, []int{2, 3}},
		"none":                        {0, []int{3, 3}, []int{0, 0}},
		"no groups":                   {5, nil, []int{}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := shares(c.free, c.needs); !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

// contender is a group that shares a scope.
type contender struct {
	settings                  map[string]string
	pending, registered, want int // want is what the others reserve
	foreign                   int // runners of nobody here
}

func TestWhatIsReservedForOtherGroups(t *testing.T) {
	for name, groups := range map[string][]contender{
		"the unfilled minimum":           {{settings: map[string]string{"min": "4"}, want: 1}, {settings: map[string]string{"min": "1"}, want: 4}},
		"a filled minimum":               {{settings: map[string]string{"min": "4"}, registered: 4, want: 1}, {settings: map[string]string{"min": "1"}}},
		"Jobs that will register":        {{settings: map[string]string{"min": "4"}, pending: 4, want: 1}, {settings: map[string]string{"min": "1"}, want: 4}},
		"Jobs beyond the minimum":        {{settings: map[string]string{"min": "1"}, pending: 6, want: 1}, {settings: map[string]string{"min": "1"}, want: 6}},
		"the count of a fixed group":     {{settings: map[string]string{"strategy": "fixed", "count": "7"}, want: 1}, {settings: map[string]string{"min": "1"}, want: 7}},
		"minimums that exceed the scope": {{settings: map[string]string{"min": "80", "max": "80"}, want: 50}, {settings: map[string]string{"min": "80", "max": "80"}, want: 50}},
		"Jobs that cannot register":      {{settings: map[string]string{"min": "1"}, registered: 10, foreign: 80}, {settings: map[string]string{"min": "1"}, registered: 10, pending: 40}},
		"both full, and both wait":       {{settings: map[string]string{"max": "90"}, registered: 50, pending: 40}, {settings: map[string]string{"max": "90"}, registered: 50, pending: 40}},
		"the same, on their way":         {{settings: map[string]string{"min": "80", "max": "80"}, pending: 50, want: 20}, {settings: map[string]string{"min": "80", "max": "80"}, pending: 20, registered: 30, want: 50}},
	} {
		t.Run(name, func(t *testing.T) {
			c, in := pieces()
			in.scaledJobs, in.jobs, in.pods = nil, nil, nil
			var runners []bitbucket.Runner
			for i, group := range groups {
				metadata := of("acme", "", fmt.Sprint("l", i))
				for key, value := range group.settings {
					metadata[key] = value
				}
				for j := range group.foreign {
					runners = append(runners, bitbucket.Runner{UUID: fmt.Sprint("foreign-", j), Name: fmt.Sprint("foreign-", j)})
				}
				uid := fmt.Sprint("group-", i)
				in.scaledJobs = append(in.scaledJobs, ScaledJob{GroupKey: GroupKey{"ns", uid}, UID: uid, CreatedOn: now, Metadata: metadata})
				for j := range group.pending + group.registered {
					pod := Pod{Namespace: "ns", Name: fmt.Sprint(uid, "-", j), UID: fmt.Sprint(uid, "-", j)}
					in.jobs = append(in.jobs, Job{Namespace: "ns", Name: pod.Name, UID: pod.UID, ScaledJobUID: uid, Pod: &pod})
					if j >= group.pending {
						runners = append(runners, bitbucket.Runner{UUID: pod.UID, Name: scope.RunnerName(pod.Name, pod.UID), Labels: []string{owner}, State: bitbucket.RunnerState{Status: bitbucket.StatusOnline}})
					}
				}
			}
			in.views[id("acme", "")] = shown(id("acme", ""), acmeUUID, runners...)
			s, _ := c.build(in)
			for i, group := range groups {
				o := s.groups[GroupKey{"ns", fmt.Sprint("group-", i)}].Observation
				if o.OtherReserved != group.want || o.OtherRegistered != len(runners)-group.registered || o.OtherReserved+len(runners) > max(policy.ScopeLimit, len(runners)) {
					t.Errorf("group %d: %d reserved and %d registered by others, want %d and %d", i, o.OtherReserved, o.OtherRegistered, group.want, len(runners)-group.registered)
				}
			}
		})
	}
}

func TestSlotsAreReservedForGroupsThatReachTheScopeOtherwise(t *testing.T) {
	c, in := pieces()
	in.jobs, in.pods = nil, nil
	other := of(acmeUUID, "", "b")
	other["credentials"], other["min"], other["max"] = "other", "40", "50"
	in.scaledJobs = append(in.scaledJobs, ScaledJob{GroupKey: GroupKey{"ns", "second"}, UID: "second-uid", CreatedOn: now, Metadata: other})
	in.views[id("acme", "")] = shown(id("acme", ""), acmeUUID)
	byUUID := scope.ID{Credentials: "other", Scope: bitbucket.Scope{Workspace: acmeUUID}}
	in.views[byUUID] = shown(byUUID, acmeUUID)
	s, _ := c.build(in)
	if n := s.groups[GroupKey{"ns", "builds"}].Observation.OtherReserved; n != 40 {
		t.Errorf("reserved for a group with another credentials set: %d, want 40", n)
	}
}
