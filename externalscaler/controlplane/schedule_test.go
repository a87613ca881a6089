package controlplane_test

import (
	"testing"
	"time"
)

func TestAGroupHasItsMinimumOfTheTimeOfDay(t *testing.T) {
	virtually(t, 1, func(w *world) {
		w.apply("fleet", "w0", map[string]string{"min": "1", "max": "2", "schedules": `[{"start":"20 0 * * *","end":"50 0 * * *","min":4,"max":6}]`}, works)
		online := func() int { return w.shown("fleet").Runners["idle"] }
		w.after(19 * time.Minute)
		if n := online(); n != 1 {
			t.Errorf("%d runners before the window opens, want 1", n)
		}
		w.after(22 * time.Minute)
		if n := online(); n != 4 {
			t.Errorf("%d runners two minutes after it has opened, want 4", n)
		}
		group, _ := w.current().plane.Viewer().Take().Group("ns", "fleet")
		if want := "20 0 * * * to 50 0 * * * UTC: min 4, max 6"; group.Schedule != want || group.Min != 4 || group.Max != 6 {
			t.Errorf("the schedule is shown as %q with min %d and max %d, want %q", group.Schedule, group.Min, group.Max, want)
		}
		w.after(50*time.Minute - time.Second)
		if n := online(); n != 4 {
			t.Errorf("%d runners until it closes, want 4", n)
		}
		w.after(65 * time.Minute) // two cool-downs: by the ratio, half of the idle ones go at a time
		if n := online(); n != 1 {
			t.Errorf("%d runners after it has closed, want 1", n)
		}
		if len(w.stale) != 0 {
			t.Errorf("calls of KEDA without an answer: %v", w.stale)
		}
	})
}
