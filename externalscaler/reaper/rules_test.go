package reaper

import (
	"testing"
	"time"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/fleet"
)

func TestWhenADisabledRunnerMayBeStopped(t *testing.T) {
	off := func(d time.Duration) rules { return lasting("{r}", idleOff, d) }
	neverOnline := func() rules {
		r := knowing()
		r.memory.leaving["{r}"] = leaving{neverOnline: true}
		return r
	}
	for name, c := range map[string]struct {
		rules  rules
		member fleet.Member
		want   bool
	}{
		"idle and disabled, by a list that shows steps": {knowing(), one("r", fleet.Draining, disabled), true},
		"disabled by us, but no list shows it yet":      {knowing(), one("r", fleet.Draining), false},
		"in no list":                                         {knowing(), one("r", fleet.Draining, disabled, unlisted), false},
		"with a step":                                        {knowing(), one("r", fleet.Draining, disabled, withStep), false},
		"with a step that ended a moment ago":                {knowing(), one("r", fleet.Draining, disabled, withStep, ended(34*time.Second)), false},
		"with a step that ended long ago":                    {knowing(), one("r", fleet.Draining, disabled, withStep, ended(35*time.Second)), true},
		"with a step that ended, says a sidecar that left":   {knowing(), one("r", fleet.Draining, disabled, withStep, ended(time.Hour), detached), false},
		"its sidecar is back and knows nothing yet":          {knowing(), one("r", fleet.Draining, disabled, does(fleet.ActivityUnknown, time.Second)), false},
		"its sidecar knows nothing for long":                 {knowing(), one("r", fleet.Draining, disabled, does(fleet.ActivityUnknown, 35*time.Second)), true},
		"without a sidecar, by a list that shows steps":      {knowing(), one("r", fleet.Draining, disabled, detached), true},
		"no list shows steps":                                {knowing(), one("r", fleet.Draining, disabled, noSteps), false},
		"no list shows steps, disabled and idle for a while": {off(34 * time.Second), one("r", fleet.Draining, disabled, noSteps), false},
		"no list shows steps, disabled and idle for long":    {off(35 * time.Second), one("r", fleet.Draining, disabled, noSteps), true},
		"no list shows steps, idle since a moment":           {off(time.Hour), one("r", fleet.Draining, disabled, noSteps, does(fleet.ActivityIdle, 34*time.Second)), false},
		"it never came online":                               {neverOnline(), one("r", fleet.Draining, disabled, does(fleet.ActivityStarting, time.Second)), true},
		"it starts, and was online before":                   {knowing(), one("r", fleet.Draining, disabled, does(fleet.ActivityStarting, time.Second)), false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := c.rules.safeToStop(c.member, now); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestWhichDrainedRunnersAreStopped(t *testing.T) {
	known := knowing()
	known.memory.leaving["{r}"] = leaving{removal: removal{ReasonSurplus, "surplus"}}
	for name, c := range map[string]struct {
		rules  rules
		member fleet.Member
		want   []string
	}{
		"disabled by us":             {known, one("r", fleet.Draining, disabled), []string{"stop r: Surplus"}},
		"disabled by somebody else":  {knowing(), one("r", fleet.Draining, disabled), []string{"stop r: Disabled"}},
		"with a step":                {knowing(), one("r", fleet.DrainingBusy, disabled), nil},
		"it may have a step":         {knowing(), one("r", fleet.Draining, disabled, withStep), nil},
		"its sidecar is not there":   {knowing(), one("r", fleet.Draining, disabled, detached), nil},
		"without a runner":           {knowing(), one("r", fleet.Draining, noRunner), nil},
		"idle, and nobody drains it": {knowing(), one("r", fleet.Idle), nil},
	} {
		t.Run(name, func(t *testing.T) { check(t, c.rules.stopDrained(seen(t, nil, c.member)), c.want...) })
	}
}

func TestRunnersOfPodsThatEndAreDisabled(t *testing.T) {
	for name, c := range map[string]struct {
		member fleet.Member
		want   []string
	}{
		"its pod is deleted":       {one("r", fleet.Draining, deleting), []string{"disable or stop r: Terminating"}},
		"its pod is deleted, busy": {one("r", fleet.DrainingBusy, deleting), []string{"disable or stop r: Terminating"}},
		"disabled already":         {one("r", fleet.Draining, deleting, disabled), nil},
		"told to end already":      {one("r", fleet.Gone, deleting), nil},
		"without a runner":         {one("r", fleet.Gone, deleting, noRunner), nil},
		"its pod stays":            {one("r", fleet.Idle), nil},
	} {
		t.Run(name, func(t *testing.T) { check(t, knowing().drainTerminating(seen(t, nil, c.member)), c.want...) })
	}
}

func TestLostRunnersAreDisabledOnceTwoListsAndAMinuteShowIt(t *testing.T) {
	for name, c := range map[string]struct {
		rules  rules
		member fleet.Member
		want   []string
	}{
		"for long":        {lasting("{r}", lost, time.Minute), one("r", fleet.Lost, status(bitbucket.StatusOffline)), []string{"disable or stop r: Lost"}},
		"for a moment":    {lasting("{r}", lost, 59*time.Second), one("r", fleet.Lost), nil},
		"in one list":     {inOneList("{r}", lost), one("r", fleet.Lost), nil},
		"not any more":    {lasting("{r}", lost, time.Hour), one("r", fleet.Busy), nil},
		"without runners": {lasting("{r}", lost, time.Hour), one("r", fleet.Lost, noRunner), nil},
	} {
		t.Run(name, func(t *testing.T) { check(t, c.rules.endLost(seen(t, nil, c.member)), c.want...) })
	}
}

func TestADrainedRunnerWithoutASidecarEndsWithItsJob(t *testing.T) {
	check(t, lasting("r-job", silent, 119*time.Second).endSilent(seen(t, nil, one("r", fleet.Draining, detached))))
	check(t, lasting("r-job", silent, 2*time.Minute).endSilent(seen(t, nil, one("r", fleet.Draining, detached))), "delete r: Lost")
}

func TestPodsWhoseRunnerIsForgottenEnd(t *testing.T) {
	long, short := lasting("r-pod", forgotten, 10*time.Minute), lasting("r-pod", forgotten, time.Minute)
	for name, c := range map[string]struct {
		rules  rules
		member fleet.Member
		want   []string
	}{
		"idle":                                 {short, one("r", fleet.Lost, noRunner), []string{"confirm gone r: Forgotten"}},
		"idle, in one list":                    {inOneList("r-pod", forgotten), one("r", fleet.Lost, noRunner), nil},
		"with its last step":                   {long, one("r", fleet.Lost, noRunner, does(fleet.ActivityBusy, time.Hour)), nil},
		"its sidecar does not know":            {long, one("r", fleet.Lost, noRunner, does(fleet.ActivityUnknown, time.Hour)), nil},
		"without a sidecar, for a moment":      {short, one("r", fleet.Lost, noRunner, detached), nil},
		"without a sidecar, for long":          {long, one("r", fleet.Lost, noRunner, detached), []string{"confirm gone, delete r: Forgotten"}},
		"known to Bitbucket":                   {knowing(), one("r", fleet.Idle), nil},
		"a Job without a pod, watched by name": {long, one("r", fleet.Pending, noRunner, noPod), nil},
	} {
		t.Run(name, func(t *testing.T) { check(t, c.rules.endForgotten(seen(t, nil, c.member)), c.want...) })
	}
}

func TestJobsThatComeToNothingEnd(t *testing.T) {
	for name, c := range map[string]struct {
		rules  rules
		member fleet.Member
		want   []string
	}{
		"never asked for a runner":        {lasting("r-job", stuck, 10*time.Minute), one("r", fleet.Pending, noRunner), []string{"delete unregistered r: Stuck"}},
		"it asks at last":                 {lasting("r-job", stuck, 10*time.Minute), one("r", fleet.Pending, noRunner, asked(time.Minute)), nil},
		"it waits for a node again":       {lasting("r-job", stuck, 10*time.Minute), one("r", fleet.Pending, noRunner, unscheduled), nil},
		"not yet asked for a runner":      {lasting("r-job", stuck, 9*time.Minute), one("r", fleet.Pending, noRunner), nil},
		"told to end, and has not":        {lasting("r-job", lingering, 10*time.Minute), one("r", fleet.Gone), []string{"delete r: Stuck"}},
		"told to end a moment ago":        {lasting("r-job", lingering, time.Minute), one("r", fleet.Gone), nil},
		"its pod has finished by itself":  {lasting("r-job", lingering, time.Hour), one("r", fleet.Gone, finished), nil},
		"a pod of which the Job is gone ": {lasting("r-job", stuck, time.Hour), one("r", fleet.Pending, func(m *fleet.Member) { m.Job = nil }), nil},
	} {
		t.Run(name, func(t *testing.T) { check(t, c.rules.endStuck(seen(t, nil, c.member)), c.want...) })
	}
}

func TestJobsBeyondWhatIsWantedEndYoungestFirst(t *testing.T) {
	old, young, busy := one("old", fleet.Pending, noRunner, created(time.Hour)), one("young", fleet.Pending, noRunner, created(time.Minute)), one("busy", fleet.Busy)
	r := knowing()
	for _, job := range []string{"old-job", "young-job"} {
		r.memory.watched[watchKey{job, unwanted}] = watched{lasted: 300 * time.Second}
	}
	for name, c := range map[string]struct {
		effective int
		hold      string
		want      []string
	}{
		"all are wanted":          {effective: 3},
		"one is too many":         {effective: 2, want: []string{"delete unregistered young: Unwanted"}},
		"two are too many":        {effective: 1, want: []string{"delete unregistered young: Unwanted", "delete unregistered old: Unwanted"}},
		"none is wanted":          {effective: 0, want: []string{"delete unregistered young: Unwanted", "delete unregistered old: Unwanted"}},
		"the ScaledJob is paused": {effective: 1, hold: "paused"},
	} {
		t.Run(name, func(t *testing.T) {
			s := seen(t, nil, old, young, busy)
			s.group.Hold = c.hold
			check(t, r.endUnwanted(s, decided(s, c.effective), time.Second), c.want...)
			w := r.memory.watched[watchKey{"young-job", unwanted}]
			w.lasted = 299 * time.Second
			short := knowing()
			short.memory.watched[watchKey{"young-job", unwanted}] = w
			check(t, short.endUnwanted(s, decided(s, c.effective), time.Second))
		})
	}
}

func TestWhichRunnersAreSurplus(t *testing.T) {
	for name, c := range map[string]struct {
		settings  map[string]string
		hold      string
		effective int
		members   []fleet.Member
		want      []string
	}{
		"as many as are wanted":   {effective: 2, members: []fleet.Member{one("a", fleet.Idle), one("b", fleet.Busy)}},
		"the longest idle first":  {effective: 2, members: []fleet.Member{one("a", fleet.Idle, idleFor(time.Minute)), one("b", fleet.Idle, idleFor(time.Hour)), one("c", fleet.Busy)}, want: []string{"disable b: Surplus"}},
		"the outdated before":     {effective: 1, members: []fleet.Member{one("a", fleet.Idle, outdated, idleFor(time.Minute)), one("b", fleet.Idle, idleFor(time.Hour))}, want: []string{"disable a: Surplus"}},
		"never a busy one":        {effective: 1, members: []fleet.Member{one("a", fleet.Busy), one("b", fleet.Busy)}},
		"never an unknown one":    {effective: 1, members: []fleet.Member{one("a", fleet.Unknown), one("b", fleet.Unknown)}},
		"never one that starts":   {effective: 1, members: []fleet.Member{one("a", fleet.Starting), one("b", fleet.Idle)}},
		"younger than cool-down":  {effective: 1, members: []fleet.Member{one("a", fleet.Idle, aged(299*time.Second)), one("b", fleet.Idle, aged(299*time.Second))}},
		"older than cool-down":    {effective: 1, members: []fleet.Member{one("a", fleet.Idle, aged(300*time.Second)), one("b", fleet.Idle, aged(299*time.Second))}, want: []string{"disable a: Surplus"}},
		"nobody can stop it":      {effective: 1, members: []fleet.Member{one("a", fleet.Idle, detached), one("b", fleet.Busy)}},
		"its lines say nothing":   {effective: 1, members: []fleet.Member{one("a", fleet.Idle, unrecognized, does(fleet.ActivityUnknown, time.Hour)), one("b", fleet.Busy)}, want: []string{"disable a: Surplus"}},
		"min stays":               {settings: map[string]string{"min": "2"}, effective: 0, members: []fleet.Member{one("a", fleet.Idle), one("b", fleet.Idle), one("c", fleet.Idle, idleFor(time.Hour))}, want: []string{"disable c: Surplus"}},
		"the ScaledJob is paused": {hold: "paused", effective: 1, members: []fleet.Member{one("a", fleet.Idle), one("b", fleet.Idle)}},
	} {
		t.Run(name, func(t *testing.T) {
			s := seen(t, c.settings, c.members...)
			s.group.Hold = c.hold
			check(t, knowing().retireSurplus(s, decided(s, c.effective)), c.want...)
		})
	}
}

func TestWhichEphemeralRunnersAreRetired(t *testing.T) {
	justOnline := func(m *fleet.Member) { unlisted(m); does(fleet.ActivityIdle, 999*time.Millisecond)(m) }
	for name, c := range map[string]struct {
		ephemeral string
		members   []fleet.Member
		want      []string
	}{
		"another can take the next step":        {"true", []fleet.Member{one("a", fleet.Busy, used), one("b", fleet.Idle)}, []string{"disable a: Ephemeral"}},
		"no other is there":                     {"true", []fleet.Member{one("a", fleet.Busy, used)}, nil},
		"the other is not online yet":           {"true", []fleet.Member{one("a", fleet.Busy, used), one("b", fleet.Starting)}, nil},
		"the other says so since a moment":      {"true", []fleet.Member{one("a", fleet.Busy, used), one("b", fleet.Idle, justOnline)}, nil},
		"the other is being replaced":           {"true", []fleet.Member{one("a", fleet.Busy, used), one("b", fleet.Replaced)}, nil},
		"of several used ones the last stays":   {"true", []fleet.Member{one("a", fleet.Busy, used, does(fleet.ActivityBusy, time.Hour)), one("b", fleet.Busy, used, does(fleet.ActivityBusy, time.Minute)), one("c", fleet.Idle, used)}, []string{"disable a: Ephemeral", "disable c: Ephemeral"}},
		"it took none yet":                      {"true", []fleet.Member{one("a", fleet.Idle), one("b", fleet.Idle)}, nil},
		"the group is not ephemeral":            {"false", []fleet.Member{one("a", fleet.Busy, used), one("b", fleet.Idle)}, nil},
		"it is disabled already":                {"true", []fleet.Member{one("a", fleet.DrainingBusy, used), one("b", fleet.Idle)}, nil},
		"another is busy, with its first step ": {"true", []fleet.Member{one("a", fleet.Idle, used), one("b", fleet.Busy)}, []string{"disable a: Ephemeral"}},
	} {
		t.Run(name, func(t *testing.T) {
			check(t, knowing().retireUsed(seen(t, map[string]string{"ephemeral": c.ephemeral}, c.members...)), c.want...)
		})
	}
}
