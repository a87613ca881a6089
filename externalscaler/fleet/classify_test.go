package fleet

import (
	"testing"
	"time"

	"bitbucket-runner-scaler/bitbucket"
)

func TestWhatAMemberCountsAs(t *testing.T) {
	now := time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)
	begun := now.Add(-10 * time.Second) // of the list
	before, after := begun.Add(-time.Second), begun.Add(time.Second)
	const step = "{aaaaaaaa-0000-4000-8000-000000000000}"
	runner := func(status bitbucket.Status, step string) *bitbucket.Runner {
		r := &bitbucket.Runner{UUID: "{r}", CreatedOn: now.Add(-time.Hour), State: bitbucket.RunnerState{Status: status, UpdatedOn: now.Add(-time.Minute)}}
		if step != "" {
			r.State.Step = &bitbucket.Step{UUID: step}
		}
		return r
	}
	fresh, old, timeless := runner(bitbucket.StatusUnregistered, ""), runner(bitbucket.StatusUnregistered, ""), runner(bitbucket.StatusUnregistered, "")
	fresh.CreatedOn, timeless.CreatedOn = now.Add(-time.Minute), time.Time{}
	lost, lostWithStep := runner(bitbucket.StatusOffline, ""), runner(bitbucket.StatusOffline, step)
	lost.State.UpdatedOn, lostWithStep.State.UpdatedOn = now.Add(-LostAfter-time.Second), now.Add(-LostAfter-time.Second)
	nameless := runner(bitbucket.StatusOnline, "")
	nameless.State.Step = &bitbucket.Step{}
	unreadable := runner(bitbucket.StatusOnline, "")
	unreadable.State.Unreadable = true
	cordoned := func(step string) *bitbucket.Runner {
		r := runner(bitbucket.StatusOnline, step)
		r.State.Cordoned = true
		return r
	}
	attached := func(activity Activity, since time.Time) Telemetry {
		return Telemetry{Attached: true, RunnerUUID: "{r}", Activity: activity, Since: since}
	}
	detached := attached(ActivityIdle, before)
	detached.Attached = false
	silent := func(since time.Time) Telemetry {
		return Telemetry{RunnerUUID: "{r}", Activity: ActivityBusy, Since: before, DetachedSince: since}
	}
	terminating := attached(ActivityIdle, after)
	terminating.Terminating = true
	ended := attached(ActivityIdle, after)
	ended.LastStep = step
	endedBefore := ended
	endedBefore.Since = before
	for name, c := range map[string]struct {
		runner   *bitbucket.Runner
		report   Telemetry
		stopping bool
		stepSeen bool
		finished bool
		deleting bool
		replaced map[string]struct{}
		want     State
	}{
		"no runner":                                               {want: Pending},
		"registered after the list":                               {report: attached(ActivityStarting, after), want: Starting},
		"vanished from a later list":                              {report: attached(ActivityIdle, before), want: Lost},
		"vanished, but its process has a step":                    {report: attached(ActivityBusy, before), want: Busy},
		"unregistered":                                            {runner: fresh, want: Starting},
		"unregistered beyond the limit":                           {runner: old, want: Lost},
		"unregistered since nobody knows when":                    {runner: timeless, want: Starting},
		"unregistered in the list, idle by a newer word":          {runner: fresh, report: attached(ActivityIdle, after), want: Idle},
		"unregistered in the list, idle by an older word":         {runner: fresh, report: attached(ActivityIdle, before), want: Starting},
		"online, no word, lists without steps":                    {runner: runner(bitbucket.StatusOnline, ""), want: Unknown},
		"online, no word, lists with steps":                       {runner: runner(bitbucket.StatusOnline, ""), stepSeen: true, want: Idle},
		"online, detached":                                        {runner: runner(bitbucket.StatusOnline, ""), report: detached, want: Unknown},
		"online, its sidecar understands nothing":                 {runner: runner(bitbucket.StatusOnline, ""), report: attached(ActivityUnknown, after), want: Unknown},
		"online, idle by its word":                                {runner: runner(bitbucket.StatusOnline, ""), report: attached(ActivityIdle, before), want: Idle},
		"online with a step":                                      {runner: runner(bitbucket.StatusOnline, step), want: Busy},
		"online with a step, idle by its word":                    {runner: runner(bitbucket.StatusOnline, step), report: attached(ActivityIdle, after), want: Busy},
		"a step that ended since the list":                        {runner: runner(bitbucket.StatusOnline, step), report: ended, want: Idle},
		"a step that comes again in a later list":                 {runner: runner(bitbucket.StatusOnline, step), report: endedBefore, want: Busy},
		"a step without a UUID is no ended one":                   {runner: nameless, report: attached(ActivityIdle, after), want: Busy},
		"online, busy by its word":                                {runner: runner(bitbucket.StatusOnline, ""), report: attached(ActivityBusy, before), stepSeen: true, want: Busy},
		"enabled, no word":                                        {runner: runner(bitbucket.StatusEnabled, ""), stepSeen: true, want: Unknown},
		"it cannot be decoded":                                    {runner: unreadable, report: attached(ActivityIdle, after), stepSeen: true, want: Unknown},
		"it cannot be decoded, but it works":                      {runner: unreadable, report: attached(ActivityBusy, after), want: Busy},
		"cordoned":                                                {runner: cordoned(""), report: attached(ActivityIdle, after), want: Draining},
		"cordoned with a step":                                    {runner: cordoned(step), want: DrainingBusy},
		"disabled":                                                {runner: runner(bitbucket.StatusDisabled, ""), want: Draining},
		"disabled with a step":                                    {runner: runner(bitbucket.StatusDisabled, step), want: DrainingBusy},
		"disabled, busy by its word":                              {runner: runner(bitbucket.StatusDisabled, ""), report: attached(ActivityBusy, after), want: DrainingBusy},
		"offline for a moment":                                    {runner: runner(bitbucket.StatusOffline, ""), want: Starting},
		"offline for a moment with a step":                        {runner: runner(bitbucket.StatusOffline, step), want: Busy},
		"offline too long":                                        {runner: lost, want: Lost},
		"offline too long, its step stranded":                     {runner: lostWithStep, want: Lost},
		"offline too long, but its process says it works":         {runner: lost, report: attached(ActivityBusy, before), want: Busy},
		"unhealthy for a moment":                                  {runner: runner(bitbucket.StatusUnhealthy, ""), want: Starting},
		"a status that is not known yet":                          {runner: runner("PAUSED", ""), want: Starting},
		"busy when its sidecar fell silent, and no list since":    {runner: runner(bitbucket.StatusOnline, ""), report: silent(after), stepSeen: true, want: Busy},
		"busy when its sidecar fell silent, idle in a list since": {runner: runner(bitbucket.StatusOnline, ""), report: silent(before), stepSeen: true, want: Idle},
		"busy when its sidecar fell silent, lists without steps":  {runner: runner(bitbucket.StatusOnline, ""), report: silent(before), want: Busy},
		"its pod is deleted before it registered":                 {deleting: true, want: Gone},
		"its pod is deleted while it starts":                      {runner: fresh, deleting: true, want: Draining},
		"its pod is deleted, idle":                                {runner: runner(bitbucket.StatusOnline, ""), deleting: true, stepSeen: true, want: Draining},
		"its pod is deleted, busy":                                {runner: runner(bitbucket.StatusOnline, step), deleting: true, want: DrainingBusy},
		"its pod is deleted, nothing is known":                    {runner: runner(bitbucket.StatusOnline, ""), deleting: true, want: DrainingBusy},
		"its sidecar says that the pod ends":                      {runner: runner(bitbucket.StatusOnline, ""), report: terminating, want: Draining},
		"to be replaced, idle":                                    {runner: runner(bitbucket.StatusOnline, ""), stepSeen: true, replaced: map[string]struct{}{}, want: Replaced},
		"to be replaced, but it took a step":                      {runner: runner(bitbucket.StatusOnline, step), stepSeen: true, replaced: map[string]struct{}{}, want: Busy},
		"told to end":                                             {runner: runner(bitbucket.StatusOnline, step), stopping: true, want: Gone},
		"stopping":                                                {runner: runner(bitbucket.StatusOnline, ""), report: attached(ActivityStopping, after), want: Gone},
		"its process has ended":                                   {runner: runner(bitbucket.StatusOnline, ""), report: attached(ActivityEnded, after), want: Gone},
		"its pod has finished":                                    {runner: runner(bitbucket.StatusOnline, ""), finished: true, want: Gone},
	} {
		t.Run(name, func(t *testing.T) {
			m := Member{Runner: c.runner, Telemetry: c.report, Pod: &Pod{Finished: c.finished, Deleting: c.deleting}, replaced: c.replaced}
			if c.stopping {
				m.StoppingSince = before
			}
			if got := (Config{}).withDefaults().Classify(&m, c.stepSeen, begun, now); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestTelemetryKeepsWhatItNeedsAndNoMore(t *testing.T) {
	all := newTelemetry()
	at := time.Unix(1000, 0)
	all.report("pod", Telemetry{Attached: true, RunnerUUID: "{r}", Activity: ActivityBusy, StepUUID: "{s}", Since: at})
	all.report("pod", Telemetry{Attached: true, Activity: ActivityIdle, Since: at.Add(time.Minute)})
	all.report("pod", Telemetry{Attached: true, Activity: ActivityIdle, Since: at.Add(time.Hour)})
	got := all.get("pod").Telemetry
	want := Telemetry{Attached: true, RunnerUUID: "{r}", Activity: ActivityIdle, LastStep: "{s}", Since: at.Add(time.Minute), OnlineSince: at}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	all.change("pod", func(pod *podMemory) {
		pod.stopping, pod.asked, pod.replaced = at, at, map[string]struct{}{}
	})
	all.keep(map[string]string{})
	if got := all.get("pod"); !got.Attached || !got.stopping.IsZero() || !got.asked.IsZero() || got.replaced != nil {
		t.Errorf("an attached sidecar of a pod that is gone: got %+v", got)
	}
	all.detach("pod", at)
	all.keep(map[string]string{})
	if len(all.pods) != 0 {
		t.Errorf("kept %v of a pod that is gone", all.pods)
	}
}

func TestAPodsScopeIsTheFirstThatItsSidecarNames(t *testing.T) {
	all := newTelemetry()
	for _, workspace := range []string{"", "first", "second", ""} {
		report := Telemetry{Attached: true}
		if workspace != "" {
			report.Scope = id(workspace, "")
		}
		all.report("pod", report)
	}
	if got := all.get("pod").Scope; got != id("first", "") {
		t.Errorf("got %v, want the first", got)
	}
}
