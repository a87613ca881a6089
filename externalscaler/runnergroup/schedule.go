package runnergroup

import (
	"cmp"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // an image need not have the time zones

	"github.com/robfig/cron/v3"
	"sigs.k8s.io/yaml"

	"bitbucket-runner-scaler/externalscaler/policy"
)

// maxSchedules bounds the time windows of a group.
const maxSchedules = 20

// Schedule is a time window in which some rules of a group are others. It is the form in which
// they are written: a list of them, as JSON or YAML, is the value of the key schedules. The names
// are those of KEDA's cron scaler.
type Schedule struct {
	// Start and End are cron expressions of five fields: when the window opens and closes.
	Start string `json:"start"`
	End   string `json:"end"`
	// Timezone is a name of the IANA database; UTC if it is empty.
	Timezone string `json:"timezone,omitempty"`
	// Min, Max and Spare are in force while the window is open; nil leaves the group's own.
	Min   *int `json:"min,omitempty"`
	Max   *int `json:"max,omitempty"`
	Spare *int `json:"spare,omitempty"`
}

// Window is a Schedule that can be asked for the time.
type Window struct {
	Schedule
	start, end cron.Schedule
}

// Open reports whether the window is open at a time: it closes before it opens again, as KEDA's
// cron scaler decides it (pkg/scalers/cron_scaler.go).
func (w Window) Open(at time.Time) bool { return w.end.Next(at).Before(w.start.Next(at)) }

// Opens returns when the window next opens after a time.
func (w Window) Opens(after time.Time) time.Time { return w.start.Next(after) }

// Closes returns when the window next closes after a time.
func (w Window) Closes(after time.Time) time.Time { return w.end.Next(after) }

// In returns the window with its times in another time zone.
func (w Window) In(zone *time.Location) Window {
	for _, s := range []*cron.Schedule{&w.start, &w.end} {
		if spec, ok := (*s).(*cron.SpecSchedule); ok {
			moved := *spec
			moved.Location = zone
			*s = &moved
		}
	}
	return w
}

// String describes the window: "0 7 * * 1-5 to 0 19 * * 1-5 Europe/Berlin: min 3, max 20".
func (w Window) String() string {
	var settings []string
	for _, s := range []struct {
		name  string
		value *int
	}{{"min", w.Min}, {"max", w.Max}, {"spare", w.Spare}} {
		if s.value != nil {
			settings = append(settings, fmt.Sprintf("%s %d", s.name, *s.value))
		}
	}
	return fmt.Sprintf("%s to %s %s: %s", w.Start, w.End, cmp.Or(w.Timezone, "UTC"), strings.Join(settings, ", "))
}

// apply puts the window's rules over others.
func (w Window) apply(r policy.Rules) policy.Rules {
	set := func(into, from *int) {
		if from != nil {
			*into = *from
		}
	}
	set(&r.Min, w.Min)
	set(&r.Max, w.Max)
	set(&r.Spare, w.Spare)
	return r
}

// At returns the group with the rules that are in force at a time. Of several windows that are open
// each puts its rules over those before it, and min is at most max. It is equal to the group that it is made from.
func (g Group) At(at time.Time) Group {
	base := g.base()
	if len(g.Windows) == 0 {
		return g
	}
	g.Written, g.Rules, g.Open = &base, base, ""
	var open []string
	for _, w := range g.Windows {
		if w.Open(at) {
			g.Rules = w.apply(g.Rules)
			open = append(open, w.String())
		}
	}
	g.Rules.Min = min(g.Rules.Min, g.Rules.Max) // they may be of different windows
	g.Open = strings.Join(open, "; ")
	return g
}

// base returns the rules outside of all windows.
func (g Group) base() policy.Rules {
	if g.Written != nil {
		return *g.Written
	}
	return g.Rules
}

// Highest returns the most runners that the rules ever allow, whatever the time.
func (g Group) Highest() int {
	highest := g.base().MaxRunners()
	for _, w := range g.Windows {
		if w.Max != nil {
			highest = max(highest, *w.Max)
		}
	}
	return highest
}

// schedules parses the time windows. The rules are those outside of them.
func (p *parser) schedules(rules policy.Rules) []Window {
	given := p.values[keySchedules]
	if given == "" {
		return nil
	}
	var written []Schedule
	if err := yaml.UnmarshalStrict([]byte(given), &written); err != nil {
		p.fault(keySchedules, given, "a list of windows such as [{\"start\":\"0 7 * * 1-5\",\"end\":\"0 19 * * 1-5\",\"timezone\":\"Europe/Berlin\",\"min\":3}]: "+reason(err))
		return nil
	}
	if len(written) > maxSchedules {
		p.fault(keySchedules, "", fmt.Sprintf("%d windows, want at most %d", len(written), maxSchedules))
		return nil
	}
	if rules.Strategy == policy.Fixed {
		p.fault(keySchedules, "", "no schedules: strategy fixed takes only count")
		return nil
	}
	windows := make([]Window, 0, len(written))
	for i, s := range written {
		s.Start, s.End, s.Timezone = strings.Join(strings.Fields(s.Start), " "), strings.Join(strings.Fields(s.End), " "), strings.TrimSpace(s.Timezone)
		windows = append(windows, p.window(fmt.Sprintf("%s[%d]", keySchedules, i), s, rules))
	}
	return windows
}

func (p *parser) window(key string, s Schedule, rules policy.Rules) Window {
	w := Window{Schedule: s}
	zone, zoned := p.zone(key, s.Timezone)
	w.start, w.end = p.cron(key+".start", s.Start, zone, zoned), p.cron(key+".end", s.End, zone, zoned)
	if w.start != nil && w.end != nil && reflect.DeepEqual(w.start, w.end) { // also if it is written another way
		p.fault(key+".end", s.End, "another time than start")
	}
	if s.Min == nil && s.Max == nil && s.Spare == nil {
		p.fault(key, "", "min, max or spare is missing: the window would change nothing")
	}
	for name, n := range map[string]*int{"min": s.Min, "max": s.Max, "spare": s.Spare} {
		if n != nil && (*n < 0 || *n > policy.ScopeLimit) {
			p.fault(key+"."+name, strconv.Itoa(*n), fmt.Sprintf("a whole number from 0 to %d", policy.ScopeLimit))
		}
	}
	in := w.apply(rules)
	switch {
	case in.Max == 0:
		p.fault(key+".max", "0", "at least 1")
	case in.Min > in.Max:
		p.fault(key, fmt.Sprintf("min %d, max %d", in.Min, in.Max), "min at most max, of which one may be that of the group")
	case in.Min == 0 && !rules.Strategy.StartsFromZero():
		p.fault(key+".min", "0", "at least 1, or strategy queuedSteps")
	}
	return w
}

func (p *parser) zone(key, name string) (*time.Location, bool) {
	if name == "" {
		return time.UTC, true
	}
	zone, err := time.LoadLocation(name)
	if err != nil || name == "Local" {
		p.fault(key+".timezone", name, "a name of the IANA time zone database, such as Europe/Berlin, or none for UTC")
		return time.UTC, false
	}
	return zone, true
}

// cron parses a cron expression.
func (p *parser) cron(key, given string, zone *time.Location, zoned bool) cron.Schedule {
	const accepted = "a cron expression of five fields, minute hour day month weekday, such as \"0 7 * * 1-5\""
	switch {
	case given == "":
		p.fault(key, "", "missing, want "+accepted)
		return nil
	case strings.Contains(given, "TZ="), strings.HasPrefix(given, "@"): // the library panics if no field follows the former
		p.fault(key, given, accepted)
		return nil
	}
	schedule, err := cron.ParseStandard(given)
	spec, plain := schedule.(*cron.SpecSchedule)
	switch {
	case err != nil:
		p.fault(key, given, accepted+"; "+reason(err))
		return nil
	case !plain:
		p.fault(key, given, accepted)
		return nil
	}
	spec.Location = zone
	if zoned && spec.Next(time.Unix(0, 0)).IsZero() {
		p.fault(key, given, "a time that there is")
	}
	return spec
}

// reason is an error of the YAML library without the steps of its work.
func reason(err error) string {
	text := strings.Join(strings.Fields(err.Error()), " ")
	for _, step := range []string{"error converting YAML to JSON: ", "error unmarshaling JSON: while decoding JSON: ", "yaml: ", "json: "} {
		text = strings.TrimPrefix(text, step)
	}
	return shorten(text)
}

// schedulesText is the value of the key schedules.
func schedulesText(windows []Window) string {
	if len(windows) == 0 {
		return ""
	}
	written := make([]Schedule, 0, len(windows))
	for _, w := range windows {
		written = append(written, w.Schedule)
	}
	text, err := json.Marshal(written)
	if err != nil {
		panic(err) // all fields are plain
	}
	return string(text)
}

// Equal reports whether two windows are written the same.
func (w Window) Equal(other Window) bool {
	return w.Start == other.Start && w.End == other.End && w.Timezone == other.Timezone &&
		same(w.Min, other.Min) && same(w.Max, other.Max) && same(w.Spare, other.Spare)
}

func same(a, b *int) bool { return a == nil && b == nil || a != nil && b != nil && *a == *b }
