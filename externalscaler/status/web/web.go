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
	streams *Streams
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
	h := &handler{Config: config, streams: NewStreams(config.Changed, time.Second)}
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
			h.streams.Serve(w, r, func() (tag string, body []byte, err error) {
				status, body := respond(r)
				if status != http.StatusOK {
					return "", nil, &refusedError{body}
				}
				return tagOf(body), body, nil
			})
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
