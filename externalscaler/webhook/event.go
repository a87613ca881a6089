package webhook

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"bitbucket-runner-scaler/bitbucket"
)

// The events that may say something about pipelines. Bitbucket has none for a pipeline or a
// step that starts.
const (
	statusCreated = "repo:commit_status_created"
	statusUpdated = "repo:commit_status_updated"
	push          = "repo:push"
	spanCreated   = "pipeline:span_created"
	prefixPR      = "pullrequest:"
)

var events = []string{
	statusCreated, statusUpdated, push, spanCreated,
	prefixPR + "created", prefixPR + "updated", prefixPR + "push", prefixPR + "fulfilled",
}

// other stands for all events that are not known.
const other = "other"

// Events returns the names of events that metrics distinguish.
func Events() []string { return append(slices.Clone(events), other) }

// known returns an event's name if it is one of Events.
func known(event string) string {
	if slices.Contains(events, event) {
		return event
	}
	return other
}

// maxPlaces bounds the pipelines of one delivery. One has the spans of a few.
const maxPlaces = 20

// name is the slug and the UUID of a workspace or a repository. Either may be empty.
type name struct{ slug, uuid string }

func (n name) all() []string { return []string{n.slug, n.uuid} }

func (n name) best() string {
	if n.uuid != "" {
		return n.uuid
	}
	return n.slug
}

// place is where something happened.
type place struct {
	workspace, repository name
	// build and pipeline are empty if they are not known.
	build    int
	pipeline string
	// over is true if the pipeline has ended.
	over bool
}

// The parts of payloads that are read. A part of another type counts as missing.
type (
	payload struct {
		Repository struct {
			FullName  string `json:"full_name"`
			UUID      string `json:"uuid"`
			Workspace struct {
				Slug string `json:"slug"`
				UUID string `json:"uuid"`
			} `json:"workspace"`
		} `json:"repository"`
		CommitStatus struct {
			URL   string `json:"url"`
			State string `json:"state"`
		} `json:"commit_status"`
		Push struct {
			Changes []struct {
				New json.RawMessage `json:"new"`
			} `json:"changes"`
		} `json:"push"`
		ResourceSpans []struct {
			ScopeSpans []struct {
				Spans []span `json:"spans"`
			} `json:"scopeSpans"`
		} `json:"resourceSpans"`
	}
	span struct {
		Name       string `json:"name"`
		Attributes []struct {
			Key   string `json:"key"`
			Value struct {
				String string `json:"stringValue"`
			} `json:"value"`
		} `json:"attributes"`
	}
)

// read returns where a delivery says that something happened to pipelines. It returns an
// error if the body is not JSON.
func read(event string, body []byte) ([]place, error) {
	var p payload
	err := json.Unmarshal(body, &p)
	var wrongType *json.UnmarshalTypeError
	if err != nil && !errors.As(err, &wrongType) { // the rest is decoded all the same
		return nil, fmt.Errorf("decode the delivery: %w", err)
	}
	if event == spanCreated {
		return p.spans(), nil
	}
	at := place{workspace: p.workspace(), repository: p.repository()}
	switch {
	case at.workspace.best() == "" || at.repository.best() == "":
		return nil, nil
	case event == statusCreated || event == statusUpdated:
		if at.build = buildOf(p.CommitStatus.URL); at.build == 0 {
			return nil, nil // the status of another system
		}
		at.over = slices.Contains([]string{"SUCCESSFUL", "FAILED", "STOPPED"}, p.CommitStatus.State)
	case event == push && p.onlyDeletes(), !slices.Contains(events, event):
		return nil, nil
	}
	return []place{at}, nil
}

func (p payload) workspace() name {
	slug, _, _ := strings.Cut(p.Repository.FullName, "/")
	if p.Repository.Workspace.Slug != "" {
		slug = p.Repository.Workspace.Slug
	}
	return name{valid(slug), uuid(p.Repository.Workspace.UUID)}
}

func (p payload) repository() name {
	_, slug, _ := strings.Cut(p.Repository.FullName, "/")
	return name{valid(slug), uuid(p.Repository.UUID)}
}

// onlyDeletes reports whether a push only deleted branches and tags, which starts nothing.
func (p payload) onlyDeletes() bool {
	for _, change := range p.Push.Changes {
		if string(change.New) != "null" {
			return false
		}
	}
	return len(p.Push.Changes) > 0
}

// spans returns the pipelines of which a run or a step has ended. Spans of another name
// count, because Bitbucket has used more than one.
func (p payload) spans() (places []place) {
	for _, resource := range p.ResourceSpans {
		for _, scope := range resource.ScopeSpans {
			for _, span := range scope.Spans {
				at, ok := span.place()
				if !ok {
					continue
				}
				known := slices.IndexFunc(places, func(p place) bool { return p.pipeline == at.pipeline })
				switch {
				case known >= 0:
					places[known].over = places[known].over || at.over
				case len(places) < maxPlaces:
					places = append(places, at)
				}
			}
		}
	}
	return places
}

// place returns the pipeline of a span. ok is false for a span of a part of a step: the
// end of the step has a span of its own.
func (s span) place() (at place, ok bool) {
	if s.Name == "bbc.command" || s.Name == "bbc.pipeline_container" {
		return place{}, false
	}
	for _, attribute := range s.Attributes {
		value := uuid(attribute.Value.String)
		switch attribute.Key {
		case "pipeline.account.uuid":
			at.workspace.uuid = value
		case "pipeline.repository.uuid":
			at.repository.uuid = value
		case "pipeline.uuid":
			at.pipeline = value
		}
	}
	at.over = s.Name == "bbc.pipeline_run"
	return at, at.workspace.uuid != "" && at.repository.uuid != "" && at.pipeline != ""
}

// results matches the end of the address of a pipeline's page, in both of its forms.
var results = regexp.MustCompile(`/pipelines/(?:results|home#!/results)/([0-9]{1,9})/?$`)

// buildOf returns the build number from the address of a pipeline's page, or 0 if the
// address is of anything else.
func buildOf(address string) int {
	if u, err := url.Parse(address); err != nil || u.Host == "" {
		return 0
	}
	found := results.FindStringSubmatch(address)
	if found == nil {
		return 0
	}
	number, _ := strconv.Atoi(found[1]) // at most nine digits
	return number
}

// uuid returns a UUID in braces and lower case, or "" if the text is none. It accepts one
// without braces.
func uuid(text string) string {
	if !strings.HasPrefix(text, "{") {
		text = "{" + text + "}"
	}
	if !bitbucket.IsUUID(text) {
		return ""
	}
	return strings.ToLower(text)
}

// valid returns a slug, or "" if the text could be anything else in a path.
func valid(slug string) string {
	if slug == "" || bitbucket.IsUUID(slug) || (bitbucket.Scope{Workspace: slug}).Validate() != nil {
		return ""
	}
	return slug
}
