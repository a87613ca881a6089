package simulate

import (
	"testing"
	"time"

	"bitbucket-runner-scaler/externalscaler/simulate/workload"
)

func TestSettingsAreThoseOfTheTimeOfDay(t *testing.T) {
	load := workload.New("two in the day", []workload.Pipeline{pipelineAt(nine, time.Minute), pipelineAt(nine.Add(6*time.Hour), time.Minute)})
	group := groupOf(t, "strategy", "queuedSteps", "schedules", `[{"start":"0 11 * * *","end":"0 13 * * *","min":5}]`)
	options := Defaults()
	options.Samples = 200
	r := run(t, load, options, Ours{}, group)
	most := map[int]int{} // by the hour
	for _, s := range r.Samples {
		hour := s.At.UTC().Hour()
		most[hour] = max(most[hour], s.Online)
	}
	for hour, want := range map[int]int{10: 1, 12: 5, 14: 1} {
		if most[hour] != want {
			t.Errorf("%d runners are online at %d o'clock, want %d (%v)", most[hour], hour, want, most)
		}
	}
}
