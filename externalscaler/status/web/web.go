// Package web serves the read-only API, /api/v1, over HTTP: package api has its values and their
// description. Each answer has an ETag, and with ?watch=true it is a stream of server-sent events
// instead, one for each change.
package web

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/status/api"
	"bitbucket-runner-scaler/externalscaler/status/history"
	"bitbucket-runner-scaler/externalscaler/status/view"
)

// Viewer takes pictures of the control plane.
type Viewer interface {
	Take() *view.Picture
	Decisions(key fleet.GroupKey) []api.Decision
	Leads() (leads bool, leader string)
}

// Config is what a handler serves.
type Config struct {
	Viewer  Viewer
	History *history.History
	// Changed returns a channel that is closed at the next change.
	Changed func() <-chan struct{}
}

// Prefix of all routes.
const Prefix = "/api/v1"

// mostItems bounds a list of steps or runners. Its answer says how many were left out.
const mostItems = 2000

// handler serves the API.
type handler struct {
	Config
	watchers chan struct{} // a slot each
}

// answer is what a request is answered with: a value, or an error with its status.
type answer struct {
	value  any
	status int
}

func ok(value any) answer { return answer{value, http.StatusOK} }

func refuse(status int, message string) answer {
	return answer{api.Error{Error: message}, status}
}

// Register adds the routes of the API to a mux.
func Register(mux *http.ServeMux, config Config) {
	h := &handler{Config: config, watchers: make(chan struct{}, mostWatchers)}
	for route, serve := range map[string]func(*view.Picture, *http.Request) answer{
		"/installation":                      func(p *view.Picture, _ *http.Request) answer { return ok(p.Installation) },
		"/problems":                          func(p *view.Picture, _ *http.Request) answer { return ok(listed(p.Installation.Problems)) },
		"/groups":                            h.groups,
		"/groups/{namespace}/{name}":         h.group,
		"/groups/{namespace}/{name}/{facet}": h.facet,
		"/decisions":                         h.decisions,
		"/history":                           func(p *view.Picture, _ *http.Request) answer { return ok(listed(h.History.All())) },
		"/steps":                             h.steps,
		"/steps/{uuid}":                      h.step,
		"/runners":                           h.runners,
	} {
		mux.HandleFunc("GET "+Prefix+route, h.serve(serve))
	}
	mux.HandleFunc("GET "+Prefix+"/openapi.json", func(w http.ResponseWriter, r *http.Request) {
		write(w, r, http.StatusOK, api.Description)
	})
	mux.HandleFunc(Prefix+"/", func(w http.ResponseWriter, r *http.Request) {
		status, message := http.StatusNotFound, "there is no such route; "+Prefix+"/openapi.json has all"
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			status, message = http.StatusMethodNotAllowed, r.Method+": the API is read-only, want GET or HEAD"
		}
		write(w, r, status, encode(api.Error{Error: message}))
	})
}

// serve answers a request from a picture, if this replica leads and the parameters are known.
func (h *handler) serve(answerTo func(*view.Picture, *http.Request) answer) http.HandlerFunc {
	respond := func(r *http.Request) (int, []byte) {
		leads, leader := h.Viewer.Leads()
		if !leads && !strings.HasSuffix(r.URL.Path, "/installation") {
			return http.StatusServiceUnavailable, encode(api.Error{Error: "this replica does not lead, so it knows no groups", Leader: leader})
		}
		a := answerTo(h.Viewer.Take(), r)
		return a.status, encode(a.value)
	}
	return func(w http.ResponseWriter, r *http.Request) {
		if fault := faulty(r); fault != "" {
			write(w, r, http.StatusBadRequest, encode(api.Error{Error: fault}))
			return
		}
		status, body := respond(r)
		if r.URL.Query().Get("watch") == "true" && status == http.StatusOK {
			h.watch(w, r, body, respond)
			return
		}
		write(w, r, status, body)
	}
}

// write sends a body, or that it has not changed.
func write(w http.ResponseWriter, r *http.Request, status int, body []byte) {
	header := w.Header()
	header.Set("Content-Type", "application/json")
	header.Set("Cache-Control", "no-cache") // it may be kept, and must be asked for again
	header.Set("X-Content-Type-Options", "nosniff")
	if status == http.StatusOK {
		tag := tagOf(body)
		header.Set("ETag", tag)
		if matches(r.Header.Get("If-None-Match"), tag) {
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	w.WriteHeader(status)
	_, _ = w.Write(body) // it fails if the reader disconnects
}

func tagOf(body []byte) string {
	sum := sha256.Sum256(body)
	return `"` + hex.EncodeToString(sum[:12]) + `"`
}

// matches reports whether a tag is one of those of a header. Proxies that compress make it weak.
func matches(header, tag string) bool {
	return slices.ContainsFunc(strings.Split(header, ","), func(given string) bool {
		given = strings.TrimSpace(given)
		return given == "*" || strings.TrimPrefix(given, "W/") == tag
	})
}

func encode(value any) []byte {
	body, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		panic(err) // all values are plain
	}
	return append(body, '\n')
}

// listed makes a list of bounded length.
func listed[T any](items []T) api.Items[T] {
	list := api.Items[T]{Items: items[:min(len(items), mostItems)], Omitted: max(0, len(items)-mostItems)}
	if list.Items == nil {
		list.Items = []T{}
	}
	return list
}

// The bounds of a stream.
const (
	// mostWatchers is how many streams are open at once.
	mostWatchers = 100
	// pace is the shortest time between two events, keepAlive the longest between two signs of
	// life, and writeTimeout bounds the writing of one.
	pace         = time.Second
	keepAlive    = 15 * time.Second
	writeTimeout = 10 * time.Second
)

// watch sends the answer to a request, and again each time that it has changed.
func (h *handler) watch(w http.ResponseWriter, r *http.Request, body []byte, respond func(*http.Request) (int, []byte)) {
	select {
	case h.watchers <- struct{}{}:
		defer func() { <-h.watchers }()
	default:
		w.Header().Set("Retry-After", "10")
		write(w, r, http.StatusServiceUnavailable, encode(api.Error{Error: "too many streams are open"}))
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no") // or nginx keeps the events back
	control := http.NewResponseController(w)
	send := func(event []byte) bool {
		_ = control.SetWriteDeadline(time.Now().Add(writeTimeout))
		if _, err := w.Write(event); err != nil {
			return false
		}
		return control.Flush() == nil
	}
	last := ""
	for sent := time.Now(); ; {
		changed := h.Changed() // before the look, so that no change is missed
		if status, next := respond(r); status == http.StatusOK {
			body = next
		} else if !send(event("error", next)) || status != http.StatusOK {
			return
		}
		switch tag := tagOf(body); {
		case tag != last:
			if !send(event("update", body)) {
				return
			}
			last, sent = tag, time.Now()
		case time.Since(sent) >= keepAlive:
			if !send([]byte(": alive\n\n")) {
				return
			}
			sent = time.Now()
		}
		if !h.wait(r, changed) {
			return
		}
	}
}

// wait waits for a change, or until a sign of life is due; false once the reader is gone.
func (h *handler) wait(r *http.Request, changed <-chan struct{}) bool {
	timer := time.NewTimer(keepAlive)
	defer timer.Stop()
	select {
	case <-changed:
	case <-timer.C:
	case <-r.Context().Done():
		return false
	}
	rest := time.NewTimer(pace)
	defer rest.Stop()
	select {
	case <-rest.C:
		return true
	case <-r.Context().Done():
		return false
	}
}

// event writes a server-sent event, with a field for each line of its data.
func event(name string, data []byte) []byte {
	var b strings.Builder
	b.WriteString("event: " + name + "\n")
	for line := range strings.Lines(string(data)) {
		b.WriteString("data: " + strings.TrimRight(line, "\n") + "\n")
	}
	b.WriteString("\n")
	return []byte(b.String())
}
