package runnergroup_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"bitbucket-runner-scaler/externalscaler/policy"
	"bitbucket-runner-scaler/externalscaler/runnergroup"
)

const workingDay = `[{"start":"0 7 * * 1-5","end":"0 19 * * 1-5","timezone":"Europe/Berlin","min":3,"max":20,"spare":2}]`

func TestAWindowChangesTheRulesWhileItIsOpen(t *testing.T) {
	group, err := runnergroup.Parse(with(map[string]string{"min": "1", "max": "5", "schedules": workingDay}))
	if err != nil {
		t.Fatal(err)
	}
	for at, want := range map[string][3]int{
		"2026-07-01T06:59:59+02:00": {1, 5, 0}, // a Wednesday
		"2026-07-01T07:00:00+02:00": {3, 20, 2},
		"2026-07-01T18:59:59+02:00": {3, 20, 2},
		"2026-07-01T19:00:00+02:00": {1, 5, 0},
		"2026-07-04T12:00:00+02:00": {1, 5, 0}, // a Saturday
		"2026-01-07T06:30:00Z":      {3, 20, 2},
		"2026-01-07T05:30:00Z":      {1, 5, 0},
		"2026-03-30T07:00:00+02:00": {3, 20, 2}, // the first day of summer time
	} {
		when, err := time.Parse(time.RFC3339, at)
		if err != nil {
			t.Fatal(err)
		}
		in := group.At(when)
		if got := [3]int{in.Rules.Min, in.Rules.Max, in.Rules.Spare}; got != want || (in.Open != "") != (want[1] == 20) {
			t.Errorf("%s: min, max, spare %v, want %v; open %q", at, got, want, in.Open)
		}
		if !in.Equal(group) || in.Highest() != 20 {
			t.Errorf("%s: the group is another: highest %d", at, in.Highest())
		}
	}
}

func TestOfSeveralWindowsTheLastOneWins(t *testing.T) {
	group, err := runnergroup.Parse(with(map[string]string{"max": "9", "schedules": `
- {start: 0 0 * * *, end: 0 12 * * *, min: 2, spare: 1}
- {start: 0 6 * * *, end: 0 18 * * *, min: 4}`}))
	if err != nil {
		t.Fatal(err)
	}
	for hour, want := range map[int][2]int{3: {2, 1}, 9: {4, 1}, 15: {4, 0}, 21: {1, 0}} {
		in := group.At(time.Date(2026, 5, 5, hour, 30, 0, 0, time.UTC))
		if got := [2]int{in.Rules.Min, in.Rules.Spare}; got != want {
			t.Errorf("at %d: min and spare %v, want %v (%s)", hour, got, want, in.Open)
		}
	}
}

// Each window is valid with the group's own rules, and another one is open at the same time.
func TestMinIsAtMostMaxWhileWindowsOverlap(t *testing.T) {
	group, err := runnergroup.Parse(with(map[string]string{"max": "30", "schedules": `
- {start: 0 7 * * *, end: 0 19 * * *, min: 20}
- {start: 0 12 * * *, end: 0 14 * * *, max: 5}`}))
	if err != nil {
		t.Fatal(err)
	}
	for hour, want := range map[int][2]int{9: {20, 30}, 13: {5, 5}, 15: {20, 30}, 21: {1, 30}} {
		in := group.At(time.Date(2026, 5, 5, hour, 30, 0, 0, time.UTC))
		if got := [2]int{in.Rules.Min, in.Rules.Max}; got != want {
			t.Errorf("at %d: min and max %v, want %v (%s)", hour, got, want, in.Open)
		}
	}
}

func TestFaultsOfSchedulesNameTheirPlace(t *testing.T) {
	for given, want := range map[string]string{
		`{`:                       "schedules: \"{\", want a list of windows",
		`[{"begin":"0 7 * * *"}]`: "unknown field",
		`[{"start":"0 25 * * *","end":"0 19 * * *","min":2}]`:                              "end of range (25) above maximum (23)",
		`[{"start":"@daily","end":"0 19 * * *","min":2}]`:                                  `schedules[0].start: "@daily", want a cron expression of five fields`,
		`[{"start":"0 7 * * *","end":"0 7 * * *","min":2}]`:                                `schedules[0].end: "0 7 * * *", want another time than start`,
		`[{"start":"7 Uhr","end":"0 19 * * *","min":2}]`:                                   `schedules[0].start: "7 Uhr", want a cron expression of five fields`,
		`[{"start":"CRON_TZ=UTC 0 7 * * *","end":"0 19 * * *","min":2}]`:                   "schedules[0].start",
		`[{"start":"TZ=UTC","end":"0 19 * * *","min":2}]`:                                  `schedules[0].start: "TZ=UTC", want a cron expression`,
		`[{"start":"CRON_TZ=UTC","end":"0 19 * * *","min":2}]`:                             `schedules[0].start: "CRON_TZ=UTC"`,
		`[{"start":"0 7 * * 1-5","end":"00 7 * * MON-FRI","min":2}]`:                       `schedules[0].end: "00 7 * * MON-FRI", want another time than start`,
		`[{"start":"@daily","end":"@every 2h","min":2}]`:                                   `schedules[0].end: "@every 2h"`,
		`[{"start":"0 7 30 2 *","end":"0 19 * * *","min":2}]`:                              `schedules[0].start: "0 7 30 2 *", want a time that there is`,
		`[{"end":"0 19 * * *","min":2}]`:                                                   "schedules[0].start: missing",
		`[{"start":"0 7 * * *","end":"0 19 * * *"}]`:                                       "min, max or spare is missing",
		`[{"start":"0 7 * * *","end":"0 19 * * *","min":2,"timezone":"Middle/Earth"}]`:     `schedules[0].timezone: "Middle/Earth", want a name of the IANA`,
		`[{"start":"0 7 * * *","end":"0 19 * * *","min":2,"timezone":"Local"}]`:            "schedules[0].timezone",
		`[{"start":"0 7 * * *","end":"0 19 * * *","min":200}]`:                             `schedules[0].min: "200", want a whole number from 0 to 100`,
		`[{"start":"0 7 * * *","end":"0 19 * * *","min":11}]`:                              `schedules[0]: "min 11, max 10"`,
		`[{"start":"0 7 * * *","end":"0 19 * * *","min":0}]`:                               "schedules[0].min: \"0\", want at least 1, or strategy queuedSteps",
		`[{"start":"0 7 * * *","end":"0 19 * * *","max":0}]`:                               "schedules[0].max: \"0\", want at least 1",
		"[" + strings.Repeat(`{"start":"0 7 * * *","end":"0 8 * * *","min":2},`, 21) + "]": "21 windows, want at most 20",
	} {
		_, err := runnergroup.Parse(with(map[string]string{"schedules": given}))
		var invalid *runnergroup.InvalidError
		if !errors.As(err, &invalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", given, err, want)
		}
	}
	if _, err := runnergroup.Parse(with(map[string]string{"strategy": "fixed", "count": "2", "schedules": workingDay})); err == nil {
		t.Error("strategy fixed takes schedules")
	}
	if _, err := runnergroup.Parse(with(map[string]string{"strategy": "queuedSteps", "schedules": `[{"start":"0 19 * * *","end":"0 7 * * *","min":0}]`})); err != nil {
		t.Error(err)
	}
}

// The rules at any time are ones that are valid by themselves.
func TestTheRulesAtAnyTimeAreValid(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		group, err := runnergroup.Parse(with(map[string]string{"min": "2", "max": "10", "schedules": `
- {start: 0 7 * * 1-5, end: 0 19 * * 1-5, timezone: America/New_York, min: 5, max: 30}
- {start: 30 2 * * 0, end: 30 3 * * 0, timezone: Europe/Berlin, spare: 3}`}))
		if err != nil {
			t.Fatal(err)
		}
		in := group.At(time.Unix(rapid.Int64Range(0, 4e9).Draw(t, "seconds"), 0))
		if r := in.Rules; r.Min > r.Max || r.Max > group.Highest() || r.Strategy != policy.PercentageRunnersIdle {
			t.Fatalf("%+v", r)
		}
		if again := in.At(time.Unix(0, 0)); again.Rules != group.At(time.Unix(0, 0)).Rules {
			t.Fatal("a group at one time is not the same at another")
		}
	})
}
