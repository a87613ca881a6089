package web

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/status/api"
	"bitbucket-runner-scaler/externalscaler/status/view"
)

// parameters are the query parameters of each route, by the end of its pattern.
var parameters = map[string][]string{
	"/groups": {"namespace"}, "/decisions": {"group"}, "/runners": {"group"}, "/steps": {"group", "state", "repository", "build"},
}

var states = []string{
	string(api.StepWaiting), string(api.StepExpected), string(api.StepHeld), string(api.StepUnserved), string(api.StepRunning), string(api.StepEnded), string(api.StepUnknown),
}

// faulty names all faults of a request's parameters; empty if it has none.
func faulty(r *http.Request) string {
	var faults []string
	known := append([]string{"watch"}, parameters[strings.TrimPrefix(r.Pattern, "GET "+Prefix)]...)
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil { // the rest would be answered as if this part had not been asked for
		return "the query cannot be read: " + shorten(err.Error())
	}
	for name, values := range query {
		switch {
		case !slices.Contains(known, name):
			faults = append(faults, fmt.Sprintf("%s: no such parameter, want one of %s", shorten(name), strings.Join(known, ", ")))
		case len(values) > 1:
			faults = append(faults, name+": given more than once")
		}
	}
	want := func(name, accepted string, good func(string) bool) {
		if given := query.Get(name); query.Has(name) && slices.Contains(known, name) && !good(given) {
			faults = append(faults, fmt.Sprintf("%s: %q, want %s", name, shorten(given), accepted))
		}
	}
	want("watch", "true or false", func(s string) bool { return s == "true" || s == "false" })
	want("group", "NAMESPACE/NAME", func(s string) bool {
		namespace, name, found := strings.Cut(s, "/")
		return found && namespace != "" && name != "" && !strings.Contains(name, "/")
	})
	want("state", "one of "+strings.Join(states, ", "), func(s string) bool { return slices.Contains(states, s) })
	want("build", "a build number of a repository that is given too", func(s string) bool {
		n, err := strconv.Atoi(s)
		return err == nil && n > 0 && query.Get("repository") != ""
	})
	slices.Sort(faults)
	return strings.Join(faults, "; ")
}

// shorten bounds what an error repeats.
func shorten(given string) string {
	const most = 100
	if len(given) > most {
		return strings.ToValidUTF8(given[:most], "") + "…"
	}
	return given
}

func (h *handler) groups(p *view.Picture, r *http.Request) answer {
	namespace := r.URL.Query().Get("namespace")
	return ok(listed(filter(p.Groups, func(g api.Group) bool { return namespace == "" || g.Namespace == namespace })))
}

// noGroup is the answer for a group that does not exist.
func noGroup(p *view.Picture, key string) answer {
	known := make([]string, 0, len(p.Groups))
	for _, g := range p.Groups {
		known = append(known, g.Key())
	}
	const named = 10
	more := ""
	if len(known) > named {
		more = fmt.Sprintf(" and %d more", len(known)-named)
	}
	return refuse(http.StatusNotFound, fmt.Sprintf("group: %q is not known, want one of: %s%s", shorten(key), cmp.Or(strings.Join(known[:min(len(known), named)], ", "), "none, for no ScaledJob names this scaler"), more))
}

func (h *handler) group(p *view.Picture, r *http.Request) answer {
	group, known := p.Group(r.PathValue("namespace"), r.PathValue("name"))
	if !known {
		return noGroup(p, r.PathValue("namespace")+"/"+r.PathValue("name"))
	}
	return ok(group)
}

// facet is one thing about a group.
func (h *handler) facet(p *view.Picture, r *http.Request) answer {
	key := fleet.GroupKey{Namespace: r.PathValue("namespace"), Name: r.PathValue("name")}
	if _, known := p.Group(key.Namespace, key.Name); !known {
		return noGroup(p, key.String())
	}
	switch facet := r.PathValue("facet"); facet {
	case "decisions":
		return ok(listed(h.Viewer.Decisions(key)))
	case "runners":
		return ok(listed(filter(p.Runners, func(s api.Runner) bool { return s.Group == key.String() })))
	case "steps":
		return ok(listed(filter(p.Steps, func(s api.Step) bool { return s.Group == key.String() })))
	case "history":
		return ok(listed(h.History.Of(key.String())))
	default:
		return refuse(http.StatusNotFound, fmt.Sprintf("%q: a group has no such list, want decisions, runners, steps or history", shorten(facet)))
	}
}

// decisions are those of one group or of all, the newest first.
func (h *handler) decisions(p *view.Picture, r *http.Request) answer {
	group := r.URL.Query().Get("group")
	if _, name, _ := strings.Cut(group, "/"); group != "" {
		key := fleet.GroupKey{Namespace: strings.TrimSuffix(group, "/"+name), Name: name}
		if _, known := p.Group(key.Namespace, key.Name); !known {
			return noGroup(p, group)
		}
		return ok(listed(h.Viewer.Decisions(key)))
	}
	var all []api.Decision
	for _, g := range p.Groups {
		all = append(all, h.Viewer.Decisions(fleet.GroupKey{Namespace: g.Namespace, Name: g.Name})...)
	}
	slices.SortStableFunc(all, func(a, b api.Decision) int { return b.Time.Compare(a.Time) })
	return ok(listed(all))
}

func (h *handler) runners(p *view.Picture, r *http.Request) answer {
	group := r.URL.Query().Get("group")
	if !knownGroup(p, group) {
		return noGroup(p, group)
	}
	return ok(listed(filter(p.Runners, func(s api.Runner) bool { return group == "" || s.Group == group })))
}

// steps are those that are worth a look or, of one build, all.
func (h *handler) steps(p *view.Picture, r *http.Request) answer {
	query := r.URL.Query()
	if !knownGroup(p, query.Get("group")) {
		return noGroup(p, query.Get("group"))
	}
	steps, repository := p.Steps, query.Get("repository")
	if build, err := strconv.Atoi(query.Get("build")); err == nil {
		steps = p.Build(repository, build)
	}
	return ok(listed(filter(steps, func(s api.Step) bool {
		return (query.Get("group") == "" || s.Group == query.Get("group")) &&
			(query.Get("state") == "" || string(s.State) == query.Get("state")) &&
			(repository == "" || p.In(s, repository))
	})))
}

func (h *handler) step(p *view.Picture, r *http.Request) answer {
	step, known := p.Step(r.PathValue("uuid"))
	if !known {
		return refuse(http.StatusNotFound, fmt.Sprintf("step: %q is not known. The scaler knows the steps of live pipelines in the repositories of groups with the strategy queuedSteps, and those that its runners run", shorten(r.PathValue("uuid"))))
	}
	return ok(step)
}

// knownGroup reports whether there is a group of that key, or none is meant.
func knownGroup(p *view.Picture, key string) bool {
	namespace, name, _ := strings.Cut(key, "/")
	_, known := p.Group(namespace, name)
	return key == "" || known
}

func filter[T any](items []T, keep func(T) bool) []T {
	kept := make([]T, 0, len(items))
	for _, item := range items {
		if keep(item) {
			kept = append(kept, item)
		}
	}
	return kept
}
