package workload

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"bitbucket-runner-scaler/bitbucket/pipelines"
)

// Shape is how the pipelines of a made-up workload are spread over time.
type Shape string

// The shapes.
const (
	// Steady: pipelines begin at any time of the day.
	Steady Shape = "steady"
	// Bursty: a few pipelines at any time, and most of them together within a minute.
	Bursty Shape = "bursty"
	// Day: a working day with a dip at lunch, and hardly anything at night.
	Day Shape = "day"
	// Monorepo: pushes over a working day, each with one build and then many tests side by side.
	Monorepo Shape = "monorepo"
)

// Shapes returns all shapes.
func Shapes() []Shape { return []Shape{Steady, Bursty, Day, Monorepo} }

// Synthetic says what workload to make up.
type Synthetic struct {
	Shape Shape
	// Steps is how many steps each day has, about.
	Steps int
	Days  int
	// Labels of all steps.
	Labels pipelines.Labels
	// Seed makes the same workload again.
	Seed uint64
}

// firstDay is a Monday.
var firstDay = time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC)

// Make makes up a workload. The same Synthetic gives the same workload.
func (s Synthetic) Make() Workload {
	m := &maker{Synthetic: s, random: rand.New(rand.NewPCG(s.Seed, 0x9e3779b97f4a7c15))} //nolint:gosec // repeatable, not secret
	w := Workload{Name: fmt.Sprintf("%s, %d steps per day", s.Shape, s.Steps), Start: firstDay, End: firstDay.AddDate(0, 0, s.Days)}
	for day := range s.Days {
		w.Pipelines = append(w.Pipelines, m.day(firstDay.AddDate(0, 0, day))...)
	}
	w.order()
	return w
}

type maker struct {
	Synthetic
	random *rand.Rand
}

// day makes the pipelines of one day.
func (m *maker) day(start time.Time) []Pipeline {
	var made []Pipeline
	var burst time.Duration
	left := 0 // pipelines of the burst that has begun
	for steps := 0; steps < m.Steps; {
		var p Pipeline
		switch m.Shape {
		case Monorepo:
			p = m.fanOut()
			p.At = start.Add(m.working())
		case Day:
			p = m.usual()
			p.At = start.Add(m.working())
		case Bursty:
			p = m.usual()
			switch {
			case left > 0:
				left--
				p.At = start.Add(burst + m.within(time.Minute))
			case m.random.Float64() < 0.3:
				p.At = start.Add(m.within(24 * time.Hour))
			default:
				burst, left = m.within(24*time.Hour-time.Minute), 5+m.random.IntN(20)
				p.At = start.Add(burst)
			}
		default:
			p = m.usual()
			p.At = start.Add(m.within(24 * time.Hour))
		}
		made = append(made, p)
		steps += len(p.Steps)
	}
	return made
}

// within returns a time between 0 and d.
func (m *maker) within(d time.Duration) time.Duration {
	return time.Duration(m.random.Float64() * float64(d)).Truncate(time.Millisecond)
}

// load is how much happens in each hour of a working day, as part of the most.
var load = [24]float64{.02, .02, .02, .02, .02, .02, .05, .15, .5, .9, 1, .95, .4, .55, .9, 1, .95, .7, .35, .15, .1, .05, .03, .02}

// working returns a time of a working day.
func (m *maker) working() time.Duration {
	for {
		at := m.within(24 * time.Hour)
		hour := int(at / time.Hour)
		part := float64(at%time.Hour) / float64(time.Hour)
		if m.random.Float64() < load[hour]*(1-part)+load[(hour+1)%24]*part {
			return at
		}
	}
}

// took returns a duration about some median: two thirds of them differ by less than a third.
func (m *maker) took(median time.Duration) time.Duration {
	return time.Duration(float64(median) * math.Exp(m.random.NormFloat64()*0.3)).Round(time.Second)
}

// step makes a step.
func (m *maker) step(name string, median time.Duration, after ...int) Step {
	return Step{Name: name, Labels: m.Labels, Duration: m.took(median), After: after}
}

// usual makes a pipeline of one of a few repositories: a pull request's tests, a build with tests,
// or a build with tests and a deployment.
func (m *maker) usual() Pipeline {
	repository := []string{"api", "app", "web"}[m.random.IntN(3)]
	switch m.random.IntN(4) {
	case 0:
		return Pipeline{Repository: repository, Kind: "lint", Steps: []Step{m.step("Lint", time.Minute)}}
	case 1, 2:
		return Pipeline{Repository: repository, Kind: "pull request", Steps: []Step{m.step("Build", 2*time.Minute), m.step("Test", 4*time.Minute, 0)}}
	default:
		return Pipeline{Repository: repository, Kind: "main", Steps: []Step{
			m.step("Build", 2*time.Minute), m.step("Unit tests", 3*time.Minute, 0), m.step("Browser tests", 6*time.Minute, 0),
			m.step("Scan", 90*time.Second, 0), m.step("Deploy", time.Minute, 1, 2, 3),
		}}
	}
}

// fanOut makes a pipeline with many tests side by side after a build.
func (m *maker) fanOut() Pipeline {
	p := Pipeline{Repository: "monorepo", Kind: "main", Steps: []Step{m.step("Build", 3*time.Minute)}}
	tests := 8 + m.random.IntN(17)
	all := make([]int, 0, tests)
	for i := range tests {
		p.Steps = append(p.Steps, m.step(fmt.Sprintf("Tests %d", i+1), 3*time.Minute, 0))
		all = append(all, i+1)
	}
	p.Steps = append(p.Steps, m.step("Report", 30*time.Second, all...))
	return p
}
