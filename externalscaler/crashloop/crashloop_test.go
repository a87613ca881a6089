package crashloop

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/fleet"
)

func TestHowLongAFailingGroupWaits(t *testing.T) {
	for failures, want := range map[int]time.Duration{
		0: 0, 2: 0, 3: 10 * time.Second, 4: 20 * time.Second, 8: 320 * time.Second, 9: 10 * time.Minute, 1000: 10 * time.Minute,
	} {
		if got := delay(failures); got != want {
			t.Errorf("after %d failures: got %v, want %v", failures, got, want)
		}
	}
}

// world is a group and what is known of it.
type world struct {
	*Loops
	clock *clocktesting.FakeClock
	group *fleet.GroupSnapshot
	made  int
}

func newWorld() *world {
	w := &world{
		clock: clocktesting.NewFakeClock(time.Now()),
		group: &fleet.GroupSnapshot{GroupKey: fleet.GroupKey{Namespace: "ns", Name: "builds"}, UID: "uid", Generation: "1"},
	}
	w.restart()
	return w
}

// restart forgets what is known, as another process that begins to lead.
func (w *world) restart() { w.Loops = New(w.clock) }

// job makes a Job now.
func (w *world) job() *fleet.Job {
	w.made++
	return &fleet.Job{Name: fmt.Sprintf("builds-%d", w.made), UID: fmt.Sprintf("job-%d", w.made), Generation: w.group.Generation, CreatedOn: w.clock.Now()}
}

// fail shows another failed Job. The snapshot before does not change.
func (w *world) fail(lived time.Duration, change func(*fleet.Failure)) *fleet.Job {
	job := w.job()
	job.Failed = &fleet.Failure{On: w.clock.Now(), Lived: lived, Cause: fleet.Cause{Reason: "Error", Message: "container runner: exit code 1"}}
	if change != nil {
		change(job.Failed)
	}
	next := *w.group
	next.Failed = append(append([]fleet.Job(nil), next.Failed...), *job)
	w.group = &next
	return job
}

// show replaces the members.
func (w *world) show(members ...fleet.Member) {
	next := *w.group
	next.Members = members
	w.group = &next
}

func TestAFailingGroupTriesOneRunnerPerDelay(t *testing.T) {
	w := newWorld()
	other := &fleet.GroupSnapshot{GroupKey: fleet.GroupKey{Namespace: "ns", Name: "other"}}
	tried := 0
	for range 3600 { // seconds, in each of which five pods ask
		w.clock.Step(time.Second)
		for range 5 {
			if w.Admit(other, w.job()) != nil {
				t.Fatal("another group waits")
			}
			if job := w.job(); w.Admit(w.group, job) == nil {
				tried++
				w.Ended(w.group, End{Job: job, Lived: time.Second})
			}
		}
	}
	// 2 at once, then after 10, 20, … 320 s, then every 10 min.
	if tried < 10 || tried > 16 {
		t.Errorf("%d runners were registered in an hour of failures, want about 14", tried)
	}
}

func TestATryThatIsLetThroughMayAskAgain(t *testing.T) {
	w := newWorld()
	for range 5 {
		w.fail(time.Second, nil)
	}
	try := w.job()
	var wait *WaitError
	if err := w.Admit(w.group, try); !errors.As(err, &wait) || wait.Wait != delay(5) {
		t.Fatalf("got %v", err)
	}
	w.clock.Step(delay(5))
	for range 3 { // its call to Bitbucket may fail
		if err := w.Admit(w.group, try); err != nil {
			t.Error(err)
		}
	}
	if w.Admit(w.group, w.job()) == nil {
		t.Error("a second one is let through")
	}
}

func TestWhichJobsCountAsFailed(t *testing.T) {
	used := func(w *world, job *fleet.Job) { // seen with a step before it failed
		before := *w.group
		before.Failed = nil
		before.Members = []fleet.Member{{Job: job, Runner: &bitbucket.Runner{}, Used: true, State: fleet.Busy}}
		w.State(&before)
	}
	for name, c := range map[string]struct {
		fail func(w *world)
		want bool
	}{
		"its runner ended at once":      {func(w *world) { w.fail(time.Second, nil) }, true},
		"no container of it ever began": {func(w *world) { w.fail(0, nil) }, true},
		"its runner lived for long":     {func(w *world) { w.fail(Age, nil) }, false},
		"its pod was evicted":           {func(w *world) { w.fail(0, func(f *fleet.Failure) { f.Disrupted = true }) }, false},
		"its runner took a step":        {func(w *world) { used(w, w.fail(time.Second, nil)) }, false},
		"it failed yesterday":           {func(w *world) { w.fail(0, func(f *fleet.Failure) { f.On = f.On.Add(-24 * time.Hour) }) }, false},
		"it is of an earlier form": {func(w *world) {
			w.fail(time.Second, nil)
			w.group.Failed[len(w.group.Failed)-1].Generation = "0"
		}, false},
		"a container cannot start": {func(w *world) {
			w.show(append(w.group.Members, fleet.Member{Job: w.job(), Pod: &fleet.Pod{Waits: fleet.Cause{Reason: "ImagePullBackOff", CannotStart: true}}})...)
		}, true},
		"its pod is being deleted": {func(w *world) {
			w.show(append(w.group.Members, fleet.Member{Job: w.job(), Pod: &fleet.Pod{Deleting: true, Waits: fleet.Cause{Reason: "ImagePullBackOff", CannotStart: true}}})...)
		}, false},
		"it waits for a node": {func(w *world) {
			w.show(append(w.group.Members, fleet.Member{Job: w.job(), Pod: &fleet.Pod{Waits: fleet.Cause{Reason: "Unschedulable"}}})...)
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			for range allowed + 1 {
				if w.State(w.group).Loops() {
					t.Fatal("it waits too early")
				}
				c.fail(w)
			}
			for range 3 { // what is shown again does not count again
				if got := w.State(w.group); got.Loops() != c.want || c.want && got.Failures != allowed+1 {
					t.Errorf("got %+v, want to wait: %v", got, c.want)
				}
			}
		})
	}
}

func TestWhatEndsACrashLoop(t *testing.T) {
	works := func(w *world, change func(*fleet.Member)) {
		m := fleet.Member{Job: w.job(), Runner: &bitbucket.Runner{}, State: fleet.Idle, Age: Age}
		change(&m)
		w.show(m)
	}
	for name, c := range map[string]struct {
		end  func(*world)
		ends bool
	}{
		"another form of its ScaledJob": {func(w *world) {
			next := *w.group
			next.Generation = "2"
			w.group = &next
		}, true},
		"the end of a runner that took a step":    {func(w *world) { w.Ended(w.group, End{Job: w.job(), Lived: time.Second, TookStep: true}) }, true},
		"the end of a runner that lived for long": {func(w *world) { w.Ended(w.group, End{Job: w.job(), Lived: Age}) }, true},
		"a runner with a step":                    {func(w *world) { works(w, func(m *fleet.Member) { m.Age, m.Used = 0, true }) }, true},
		"a runner that stays online":              {func(w *world) { works(w, func(*fleet.Member) {}) }, true},
		"a runner that does not come online":      {func(w *world) { works(w, func(m *fleet.Member) { m.State = fleet.Starting }) }, false},
		"a runner that came online late":          {func(w *world) { works(w, func(m *fleet.Member) { m.Telemetry.OnlineSince = w.clock.Now() }) }, false},
		"a runner that is online":                 {func(w *world) { works(w, func(m *fleet.Member) { m.Age = Age - 1 }) }, false},
		"an old runner, of the image that worked": {func(w *world) { works(w, func(m *fleet.Member) { m.Job.CreatedOn = m.Job.CreatedOn.Add(-time.Hour) }) }, false},
		"an hour without news":                    {func(w *world) { w.clock.Step(memory + 1) }, true},
		"nothing":                                 {func(*world) {}, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			for range 10 {
				w.Ended(w.group, End{Job: w.job(), Lived: time.Second})
			}
			if !w.State(w.group).Loops() {
				t.Fatal("a group whose runners crash does not wait")
			}
			w.clock.Step(time.Second)
			c.end(w)
			if got := w.State(w.group); got.Loops() == c.ends {
				t.Errorf("got %+v, want an end: %v", got, c.ends)
			}
			if err := w.Admit(w.group, w.job()); (err == nil) != c.ends {
				t.Errorf("got %v, want an end: %v", err, c.ends)
			}
		})
	}
}

func TestHowManyTriesAGroupGets(t *testing.T) {
	pending := fleet.Member{Job: &fleet.Job{UID: "pending"}, State: fleet.Pending}
	unable := fleet.Member{Job: &fleet.Job{UID: "unable"}, State: fleet.Pending, Pod: &fleet.Pod{Waits: fleet.Cause{Reason: "ImagePullBackOff", CannotStart: true}}}
	for name, c := range map[string]struct {
		after   time.Duration
		members []fleet.Member
		want    int
	}{
		"within the delay":               {delay(4) - 1, nil, 0},
		"after it":                       {delay(4), nil, 1},
		"after it, and one is under way": {delay(4), []fleet.Member{pending}, 0},
		"after it, and one is online":    {delay(4), []fleet.Member{{Job: &fleet.Job{UID: "old"}, State: fleet.Idle}}, 1},
		"after it, and one cannot start": {delay(4), []fleet.Member{unable}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			w.show(c.members...)
			for range 4 {
				if w.State(w.group).Failures < 4 {
					w.fail(0, nil)
				}
			}
			w.clock.Step(c.after)
			if got := w.State(w.group); got.Tries != c.want || got.Wait != max(0, delay(4)-c.after) {
				t.Errorf("got %+v, want %d tries", got, c.want)
			}
		})
	}
}

func TestTheLastLineIsShown(t *testing.T) {
	w := newWorld()
	for range allowed + 1 {
		w.Ended(w.group, End{Job: w.job(), Cause: fleet.Cause{Reason: "Error", Message: "container runner: exit code 3"}, LastLine: "no such file"})
	}
	if got := w.State(w.group).String(); !strings.Contains(got, "exit code 3") || !strings.Contains(got, `"no such file"`) {
		t.Errorf("got %q", got)
	}
}

func TestTheCauseIsTakenFromThePodOfARunnerThatEnded(t *testing.T) {
	w := newWorld()
	var last *fleet.Job
	for range allowed + 1 {
		last = w.job()
		w.Ended(w.group, End{Job: last, LastLine: "bye"})
	}
	last.Failed = &fleet.Failure{On: w.clock.Now(), Cause: fleet.Cause{Reason: "OOMKilled"}}
	next := *w.group
	next.Failed = []fleet.Job{*last}
	if got := w.State(&next); got.Failures != allowed+1 || got.Cause.Reason != "OOMKilled" || got.LastLine != "bye" {
		t.Errorf("got %+v", got)
	}
}

// A process that begins to lead sees only the failed Jobs that KEDA keeps.
func TestANewLeaderGoesOnWaiting(t *testing.T) {
	w := newWorld()
	for range allowed {
		w.fail(time.Second, nil)
	}
	if got := w.State(w.group); !got.Loops() || got.Tries != 0 {
		t.Errorf("got %+v, want a group that waits", got)
	}
	w.clock.Step(memory + 1)
	w.restart()
	if got := w.State(w.group); got.Loops() {
		t.Errorf("got %+v of failures long ago", got)
	}
}

// Its sidecar may see more of a runner's life than there was: the failed pod shows the truth.
func TestALongLifeIsNoStep(t *testing.T) {
	w := newWorld()
	job := w.job()
	w.Ended(w.group, End{Job: job, Lived: Age})
	job.Failed = &fleet.Failure{On: w.clock.Now(), Lived: time.Second}
	next := *w.group
	next.Failed = []fleet.Job{*job}
	w.group = &next
	for range allowed {
		w.State(w.group)
		w.clock.Step(time.Second)
		w.fail(time.Second, nil)
	}
	if got := w.State(w.group); !got.Loops() {
		t.Errorf("got %+v, want the failed Jobs to count", got)
	}
}

func TestANewLeaderInventsNoCrashLoop(t *testing.T) {
	for name, happens := range map[string]func(w *world){
		"failures that are far apart": func(w *world) {
			w.fail(time.Second, nil)
			w.clock.Step(MaxDelay + 2*Age)
			w.fail(time.Second, nil)
		},
		"a newer Job": func(w *world) {
			w.fail(time.Second, nil)
			w.fail(time.Second, nil)
			w.clock.Step(time.Second)
			w.show(fleet.Member{Job: w.job(), State: fleet.Idle})
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			happens(w)
			w.restart()
			if got := w.State(w.group); got.Loops() {
				t.Errorf("got %+v, want no loop", got)
			}
		})
	}
}
