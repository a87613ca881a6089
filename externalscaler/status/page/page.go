// Package page is the scaler's page for people who would rather look: what is wrong, which steps
// wait and why, the groups with their runners and decisions, and a chart of the last hours. It is
// rendered here, updates itself by server-sent events, and needs nothing from elsewhere. It only
// reads.
package page

import (
	"bytes"
	"cmp"
	_ "embed" // for what is served
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/status/api"
	"bitbucket-runner-scaler/externalscaler/status/history"
	"bitbucket-runner-scaler/externalscaler/status/view"
	"bitbucket-runner-scaler/externalscaler/status/web"
)

//go:embed page.html
var source string

//go:embed style.css
var style []byte

//go:embed script.js
var script []byte

// policy lets the page load its own style and script, ask its own server, and nothing else.
const policy = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// Config is what a page shows.
type Config struct {
	Viewer  web.Viewer
	History *history.History
	// Changed returns a channel that is closed at the next change.
	Changed func() <-chan struct{}
	Now     func() time.Time
}

// Register adds the page's routes to a mux.
func Register(mux *http.ServeMux, config Config) {
	p := &pages{Config: config, rendered: map[string]rendered{}}
	p.template = template.Must(template.New("page").Funcs(template.FuncMap{
		"age": p.age, "stamp": stamp, "moment": moment, "chart": chart, "plural": plural, "join": strings.Join, "percent": percent, "tenth": func(n int) int { return n / 10 }, "id": id, "last": last,
	}).Parse(source))
	streams := web.NewStreams(config.Changed, updateEvery)
	mux.HandleFunc("GET /{$}", p.page)
	mux.HandleFunc("GET /live", func(w http.ResponseWriter, r *http.Request) {
		streams.Serve(w, r, func() (tag string, body []byte, err error) { return p.render("main") })
	})
	mux.HandleFunc("GET /style.css", asset("text/css; charset=utf-8", style))
	mux.HandleFunc("GET /script.js", asset("text/javascript; charset=utf-8", script))
}

// updateEvery is the shortest time between two updates: a page has up to a thousand runners.
const updateEvery = 3 * time.Second

// freshFor is how long what was rendered serves all readers: rendering 1,000 runners takes much
// longer than sending them, and there may be a hundred streams.
const freshFor = time.Second

type pages struct {
	Config
	template *template.Template

	mu       sync.Mutex
	rendered map[string]rendered // by the part of the template
}

// rendered is a part of the page at one moment.
type rendered struct {
	at   time.Time
	tag  string
	body []byte
}

func (p *pages) page(w http.ResponseWriter, _ *http.Request) {
	_, body, err := p.render("page")
	header := w.Header()
	header.Set("Content-Security-Policy", policy)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Cache-Control", "no-store")
	if err != nil {
		http.Error(w, "the page cannot be shown: "+err.Error(), http.StatusInternalServerError)
		return
	}
	header.Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write(body) // it fails if the reader disconnects
}

func asset(kind string, content []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-cache")
		_, _ = w.Write(content)
	}
}

// content is what the template shows.
type content struct {
	Leads  bool
	Leader string
	api.Installation
	Groups  []group
	Waiting []api.Step
	// Omitted counts the steps that are left out.
	Omitted int
	Totals  totals
	Samples []api.Sample
	Now     time.Time
}

// group is a runner group with what belongs to it.
type group struct {
	api.Group
	Members   []api.Runner
	Decisions []api.Decision
	Samples   []api.Sample
}

// totals are sums over all groups.
type totals struct{ Groups, Online, Busy, Queued, Wanted int }

const (
	// mostWaiting is how many steps are listed, and mostDecisions how many decisions of a group.
	mostWaiting   = 200
	mostDecisions = 10
)

// agesFor is for how many seconds the ages on a page are good enough.
const agesFor = 15

// render renders a part of the page, or returns what was rendered a moment ago. The tag changes with
// what is shown.
func (p *pages) render(part string) (tag string, body []byte, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	shown := content{Now: p.Now()}
	shared, known := p.rendered[part]
	if age := shown.Now.Sub(shared.at); known && age >= 0 && age < freshFor {
		return shared.tag, shared.body, nil
	}
	shown.Leads, shown.Leader = p.Viewer.Leads()
	if shown.Leads {
		picture := p.Viewer.Take()
		if tag = fmt.Sprintf("%s %d", picture.Tag(), shown.Now.Unix()/agesFor); known && tag == shared.tag {
			return shared.tag, shared.body, nil
		}
		p.fill(&shown, picture)
	}
	var out bytes.Buffer
	if err := p.template.ExecuteTemplate(&out, part, shown); err != nil {
		return "", nil, err
	}
	p.rendered[part] = rendered{shown.Now, tag, out.Bytes()}
	return tag, out.Bytes(), nil
}

func (p *pages) fill(shown *content, picture *view.Picture) {
	shown.Installation = picture.Installation
	members := map[string][]api.Runner{}
	steps := map[string]api.Step{}
	for _, s := range picture.Steps {
		if s.State == api.StepRunning {
			steps[s.UUID] = s
		} else {
			shown.Waiting = append(shown.Waiting, s)
		}
	}
	for _, r := range picture.Runners {
		if r.Step != nil {
			if known, ok := steps[r.Step.UUID]; ok {
				r.Step = &known
			}
		}
		members[r.Group] = append(members[r.Group], r)
	}
	for _, g := range picture.Groups {
		decisions := p.Viewer.Decisions(fleet.GroupKey{Namespace: g.Namespace, Name: g.Name})
		shown.Groups = append(shown.Groups, group{
			Group: g, Members: members[g.Key()], Decisions: decisions[:min(len(decisions), mostDecisions)], Samples: p.History.Of(g.Key()),
		})
		shown.Totals.Groups++
		shown.Totals.Online += g.Online()
		shown.Totals.Busy += g.Runners["busy"] + g.Runners["draining busy"]
		if g.Queue != nil {
			shown.Totals.Queued += g.Queue.Queued
		}
		if g.Decision != nil {
			shown.Totals.Wanted += g.Decision.Effective
		}
	}
	slices.SortStableFunc(shown.Groups, func(a, b group) int { return cmp.Compare(a.Worst(), b.Worst()) })
	shown.Omitted = max(0, len(shown.Waiting)-mostWaiting)
	shown.Waiting = shown.Waiting[:min(len(shown.Waiting), mostWaiting)]
	shown.Waiting = onceRemedied(shown.Waiting)
	shown.Samples = p.History.All()
}

// onceRemedied leaves out the remedies of a step that are those of the step before it.
func onceRemedied(steps []api.Step) []api.Step {
	short := slices.Clone(steps)
	for i := range short {
		if i == 0 || !slices.Equal(steps[i].Why, steps[i-1].Why) {
			continue
		}
		short[i].Why = slices.Clone(steps[i].Why)
		for j := range short[i].Why {
			short[i].Why[j].Remedy = ""
		}
	}
	return short
}

// age says how long ago something was.
func (p *pages) age(t *time.Time) string {
	if t == nil {
		return ""
	}
	switch d := p.Now().Sub(*t); {
	case d < 0:
		return "0 s"
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	default:
		return fmt.Sprintf("%d d", int(d.Hours()/24))
	}
}

// stamp is a time for machines, and moment one for people.
func stamp(t time.Time) string  { return t.UTC().Format(time.RFC3339) }
func moment(t time.Time) string { return t.UTC().Format("15:04:05") }

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func percent(part, whole int) int { return 100 * part / max(1, whole) }

// id makes a name one of an element.
func id(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-':
			return r
		}
		return '_'
	}, name)
}
