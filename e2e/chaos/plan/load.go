package plan

import (
	"fmt"
	"slices"
	"time"
)

// repositories are the repositories of the workspace. The empty one is the workspace itself.
var repositories = []string{"", "app", "web"}

func (m *maker) groups() {
	scopes := m.Perm(len(repositories))[:MinScopes+m.IntN(len(repositories)-MinScopes+1)]
	for i := range MinGroups + m.IntN(2) {
		scope := scopes[i%len(scopes)] // so each scope has one
		g := Group{
			Name: fmt.Sprintf("g%d", i+1), Namespace: choose(m, "a", "b"), Repository: repositories[scope],
			Min: 1 + m.IntN(2), Ephemeral: m.chance(0.3), CoolDown: m.between(10*time.Second, 25*time.Second),
		}
		g.StepsIn = g.Repository
		if g.StepsIn == "" {
			g.StepsIn = choose(m, "app", "web")
		}
		if m.plan.Queue && (i == 0 || m.chance(0.7)) {
			m.byQueue(&g)
		}
		g.Max = max(g.Min, g.Rest()) + 1 + m.IntN(4)
		if m.chance(0.2) {
			g.MaxAge = m.between(60*time.Second, 120*time.Second)
		}
		m.plan.Groups = append(m.plan.Groups, g)
	}
}

func (m *maker) byQueue(g *Group) {
	g.ByQueue, g.Min = true, 1
	g.Listed = g.Repository == "" && m.chance(0.5)
	if m.chance(0.4) {
		g.LookAhead = m.between(5*time.Second, 30*time.Second)
	}
}

// load makes at least MinSteps steps, including some of each kind.
func (m *maker) load() {
	p := &m.plan
	least := 5
	if p.Queue {
		least = 10 // so that most shapes occur
	}
	for steps := 0; steps < MinSteps+m.IntN(25) || len(p.Pipelines) < least; {
		one := Pipeline{At: m.between(0, p.Length*8/10), Group: m.IntN(len(p.Groups)), Steps: choose(m, 1, 1, 2, 3, 5, 8)}
		one.Duration = m.between(3*time.Second, 15*time.Second)
		if m.chance(0.3) {
			one.Duration = m.spell(30*time.Second, 60*time.Second)
		}
		if m.chance(0.15) {
			one.StopAfter = m.between(2*time.Second, 30*time.Second)
		}
		if p.Groups[one.Group].ByQueue && m.chance(0.8) {
			m.shape(&one)
		}
		steps += one.Steps
		p.Pipelines = append(p.Pipelines, one)
	}
	slices.SortStableFunc(p.Pipelines, func(a, b Pipeline) int { return int(a.At - b.At) })
}

func (m *maker) shape(one *Pipeline) {
	one.Shape = shapes[m.IntN(len(shapes))]
	if one.Duration > 20*time.Second && one.Shape != FanOut {
		one.Duration = 20 * time.Second // several in a row
	}
	if one.Shape == Gate && m.chance(0.7) {
		one.OpenAfter = one.Duration + m.between(2*time.Second, 30*time.Second)
	}
	one.Rerun = m.chance(0.2)
}
