package lint

import (
	"strings"
	"testing"
	"time"

	"bitbucket-runner-scaler/externalscaler/runnergroup"
)

func windows(t *testing.T, schedules string) []runnergroup.Window {
	t.Helper()
	group, err := runnergroup.Parse(map[string]string{"workspace": "acme", "labels": "a", "schedules": schedules})
	if err != nil {
		t.Fatal(err)
	}
	return group.Windows
}

func TestWhatIsFoundInTimeWindows(t *testing.T) {
	now := time.Date(2026, 1, 15, 0, 0, 0, 0, time.UTC)
	window := func(start, end, zone string) string {
		return "{start: " + start + ", end: " + end + ", timezone: " + zone + ", min: 2}"
	}
	for name, c := range map[string]struct {
		find      func([]runnergroup.Window, time.Time) string
		schedules []string
		want      string // empty for nothing
	}{
		"one after the other": {overlap, []string{window("0 7 * * *", "0 12 * * *", "UTC"), window("0 12 * * *", "0 18 * * *", "UTC")}, ""},
		"overlap":             {overlap, []string{window("0 7 * * *", "0 12 * * *", "UTC"), window("0 11 * * 5", "0 18 * * 5", "UTC")}, "opens on Fri 2026-01-16 11:00 UTC"},
		"overlap by zones":    {overlap, []string{window("0 7 * * *", "0 12 * * *", "Europe/Berlin"), window("0 5 * * *", "0 6 * * *", "UTC")}, "opens on"},
		"overlap in summer":   {overlap, []string{window("0 7 * * *", "0 12 * * *", "Europe/Berlin"), window("0 4 * * *", "30 5 * * *", "UTC")}, "2026-03-29"},
		"no gap":              {gap, []string{window("0 7 * * *", "0 12 * * *", "UTC"), window("0 12 * * *", "0 18 * * *", "UTC")}, ""},
		"gap":                 {gap, []string{window("0 7 * * *", "0 12 * * *", "UTC"), window("30 12 * * *", "0 18 * * *", "UTC")}, "30m0s pass between"},
		"a long gap":          {gap, []string{window("0 7 * * *", "0 12 * * *", "UTC"), window("0 14 * * *", "0 18 * * *", "UTC")}, ""},
		"skipped":             {clockChange, []string{window("30 2 * * *", "0 12 * * *", "Europe/Berlin")}, "opens at a time that is skipped on 2026-03-29"},
		"repeated":            {clockChange, []string{window("0 12 * * 6", "30 1 * * 0", "America/New_York")}, "closes at a time that is repeated on 2026-11-01"},
		"before the change":   {clockChange, []string{window("59 1 * * *", "0 3 * * *", "Europe/Berlin")}, ""},
		"another weekday":     {clockChange, []string{window("30 2 * * 1", "0 12 * * 1", "Europe/Berlin")}, ""},
		"no change":           {clockChange, []string{window("30 2 * * *", "0 12 * * *", "Asia/Tokyo")}, ""},
		"UTC":                 {clockChange, []string{window("30 2 * * *", "0 12 * * *", "UTC")}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := c.find(windows(t, "["+strings.Join(c.schedules, ", ")+"]"), now)
			if (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}
