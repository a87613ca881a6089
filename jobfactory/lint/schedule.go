package lint

import (
	"fmt"
	"time"

	"bitbucket-runner-scaler/externalscaler/runnergroup"
)

const (
	// horizon is how far ahead windows are looked at: a year has both changes of the clock.
	horizon = 366 * 24 * time.Hour
	// mostOpenings bounds the openings of one window that are looked at.
	mostOpenings = 1000
	// shortGap is a time between two windows that is hardly meant.
	shortGap = time.Hour
)

// scheduleRules are the rules about time windows. They look at the year after the time of the check.
func scheduleRules(now func() time.Time) []entry {
	each := func(f func([]runnergroup.Window, time.Time) string) func(*job, report) {
		return func(j *job, add report) {
			if j.invalid != nil || len(j.group.Windows) == 0 {
				return
			}
			if found := f(j.group.Windows, now()); found != "" {
				add(found, j.metadata("schedules")...)
			}
		}
	}
	return []entry{
		{Rule: rule("schedule-overlap", Warning, "time windows of a group that are open at the same time: the later one in the list wins for each setting", "let one end before the other begins, unless the order is meant"), one: each(overlap)},
		{Rule: rule("schedule-gap", Warning, "less than an hour between two time windows of a group, in which its own settings are in force", "let the first end when the second begins"), one: each(gap)},
		{Rule: rule("schedule-dst", Warning, "a time window that opens or closes at a time that a change of the clocks skips or repeats: on that day it does not, or twice", "choose another time, or UTC as its time zone"), one: each(clockChange)},
	}
}

// openings calls f with the times at which a window opens within the horizon, until it returns false.
func openings(w runnergroup.Window, now time.Time, f func(at time.Time) bool) {
	at := now
	for range mostOpenings {
		if at = w.Opens(at); at.IsZero() || at.Sub(now) > horizon || !f(at) {
			return
		}
	}
}

func overlap(windows []runnergroup.Window, now time.Time) (found string) {
	for i, w := range windows {
		openings(w, now, func(at time.Time) bool {
			for k, other := range windows {
				if k != i && found == "" && other.Open(at) {
					found = fmt.Sprintf("%q opens on %s, while %q is open", w, day(at), other)
				}
			}
			return found == ""
		})
	}
	return found
}

func gap(windows []runnergroup.Window, now time.Time) (found string) {
	for i, w := range windows {
		openings(w, now, func(at time.Time) bool {
			end := w.Closes(at)
			for k, other := range windows {
				if between := other.Opens(end.Add(-time.Second)).Sub(end); k != i && between > 0 && between < shortGap && !anyOpen(windows, end) {
					found = fmt.Sprintf("%s pass between %q and %q on %s", between, w, other, day(end))
				}
			}
			return found == ""
		})
	}
	return found
}

func anyOpen(windows []runnergroup.Window, at time.Time) bool {
	for _, w := range windows {
		if w.Open(at) {
			return true
		}
	}
	return false
}

func day(at time.Time) string { return at.Format("Mon 2006-01-02 15:04 MST") }

// clockChange looks at the hours that the changes of the clocks skip or repeat.
func clockChange(windows []runnergroup.Window, now time.Time) string {
	for _, w := range windows {
		zone, err := time.LoadLocation(w.Timezone)
		if err != nil {
			continue
		}
		face := w.In(time.UTC) // goes by the time that a clock shows, whatever it is worth
		for _, change := range changes(zone, now) {
			from, to, what := hours(change.In(zone))
			for name, next := range map[string]func(time.Time) time.Time{"opens": face.Opens, "closes": face.Closes} {
				if next(from.Add(-time.Second)).Before(to) {
					return fmt.Sprintf("%q %s at a time that is %s on %s", w, name, what, from.Format(time.DateOnly))
				}
			}
		}
	}
	return ""
}

// changes are the moments within the horizon at which a zone's clock is changed.
func changes(zone *time.Location, now time.Time) (all []time.Time) {
	for at := now; ; {
		_, end := at.In(zone).ZoneBounds()
		if end.IsZero() || end.Sub(now) > horizon {
			return all
		}
		all, at = append(all, end), end
	}
}

// hours are what the clock shows, as if it were UTC, in the time that its change skips or repeats.
func hours(change time.Time) (from, to time.Time, what string) {
	_, before := change.Add(-time.Second).Zone()
	_, after := change.Zone()
	old, changed := change.UTC().Add(time.Duration(before)*time.Second), change.UTC().Add(time.Duration(after)*time.Second)
	if changed.After(old) {
		return old, changed, "skipped"
	}
	return changed, old, "repeated"
}
