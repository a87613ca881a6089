package bitbucket

import (
	"testing"
	"time"

	testclock "k8s.io/utils/clock/testing"
	"pgregory.net/rapid"
)

// drain takes calls of a class until one is refused.
func drain(b *Budget, class Class) (taken int) {
	for b.take(class) == nil {
		taken++
	}
	return taken
}

func TestBudgetRefusesTheQueueFirstAndThenTheRestAboveTheListsThatAreGuaranteed(t *testing.T) {
	b := NewBudget(100, 0.1, testclock.NewFakePassiveClock(time.Now()))
	b.Pace(60) // 20 of them are guaranteed
	for _, step := range []struct {
		class Class
		want  int
	}{{ClassQueue, 29}, {ClassQueue, 0}, {ClassRegistration, 49}, {ClassQueue, 0}, {ClassList, 22}} {
		if got := drain(b, step.class); got != step.want {
			t.Errorf("%s took %d, want %d", step.class, got, step.want)
		}
	}
	if b.Used() != 100 || b.Remaining() != 0 {
		t.Errorf("used %d, remaining %d", b.Used(), b.Remaining())
	}
}

func TestBudgetIsAvailableAgainAfterAnHour(t *testing.T) {
	clk := testclock.NewFakePassiveClock(time.Date(2026, 1, 2, 3, 4, 59, 0, time.UTC))
	b := NewBudget(1, 0, clk)
	if b.take(ClassList) != nil {
		t.Fatal("a new budget refused")
	}
	clk.SetTime(clk.Now().Add(time.Hour - time.Second))
	if b.take(ClassList) == nil {
		t.Error("a call was allowed within the hour")
	}
	clk.SetTime(clk.Now().Add(time.Minute + 2*time.Second))
	if b.take(ClassList) != nil {
		t.Error("the budget is still exhausted after an hour")
	}
}

func TestBudgetCountsAfterTheClockIsSetBack(t *testing.T) {
	clk := testclock.NewFakePassiveClock(time.Now())
	b := NewBudget(2, 0, clk)
	for range 2 {
		if err := b.take(ClassList); err != nil {
			t.Error(err)
		}
		clk.SetTime(clk.Now().Add(-5 * time.Hour))
	}
	if got := b.Used(); got != 2 {
		t.Errorf("used %d, want 2", got)
	}
}

// steppedClock has a wall clock that can be stepped, and a monotonic one that cannot.
type steppedClock struct {
	*testclock.FakePassiveClock
	step time.Duration
}

func (c *steppedClock) Now() time.Time { return c.FakePassiveClock.Now().Add(c.step) }

func (c *steppedClock) Since(t time.Time) time.Duration { return c.FakePassiveClock.Since(t) }

func TestBudgetOutlastsAClockThatWasAhead(t *testing.T) {
	clk := &steppedClock{FakePassiveClock: testclock.NewFakePassiveClock(time.Now())}
	b := NewBudget(100, 0, clk)
	refused := 0
	for minute := range 48 * 60 {
		clk.step = 0
		if minute == 10 {
			clk.step = 365 * 24 * time.Hour
		}
		clk.SetTime(clk.FakePassiveClock.Now().Add(time.Minute))
		if b.take(ClassList) != nil {
			refused++
		}
	}
	if refused > 0 || b.Used() > 61 {
		t.Errorf("%d calls were refused, %d used; want 60 of 100 per hour", refused, b.Used())
	}
}

// In every rolling hour, at most limit calls are made.
func TestBudgetLimitsEveryRollingHour(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(1, 30).Draw(t, "limit")
		now := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
		clk := testclock.NewFakePassiveClock(now)
		b := NewBudget(limit, rapid.SampledFrom([]float64{0, 0.1, 0.3}).Draw(t, "reserve"), clk)
		var taken []time.Time
		for range rapid.IntRange(1, 200).Draw(t, "calls") {
			now = now.Add(time.Duration(rapid.IntRange(0, 900).Draw(t, "seconds")) * time.Second)
			clk.SetTime(now)
			b.Pace(float64(rapid.IntRange(0, 60).Draw(t, "lists")))
			if b.take(Class(rapid.IntRange(0, 2).Draw(t, "class"))) == nil {
				taken = append(taken, now)
			}
			within := 0
			for _, at := range taken {
				if now.Sub(at) < time.Hour {
					within++
				}
			}
			if within > limit || b.Used() < within || b.Remaining() != max(0, limit-b.Used()) {
				t.Fatalf("%d calls within an hour, limit %d, used %d", within, limit, b.Used())
			}
		}
	})
}
