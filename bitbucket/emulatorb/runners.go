package emulator

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

var labelForm = regexp.MustCompile(`^[a-z0-9.]+$`)

// defaultLabels do not count as custom ones.
var defaultLabels = []string{"self.hosted", "linux", "linux.arm64", "linux.shell", "windows", "macos"}

// scopeOf finds the scope that a path names, by slug or UUID.
func (s *Server) scopeOf(r *http.Request) (string, workspace, repository, error) {
	for _, ws := range s.workspaces {
		if given := r.PathValue("workspace"); given != ws.slug && !strings.EqualFold(given, ws.uuid) {
			continue
		}
		given := r.PathValue("repo")
		if given == "" {
			return ws.slug, ws, repository{}, nil
		}
		for _, repo := range ws.repositories {
			if given == repo.slug || strings.EqualFold(given, repo.uuid) {
				return ws.slug + "/" + repo.slug, ws, repo, nil
			}
		}
		return "", workspace{}, repository{}, fail(http.StatusNotFound, "Repository %s/%s not found", ws.slug, given)
	}
	return "", workspace{}, repository{}, fail(http.StatusNotFound, "No workspace with identifier '%s'.", r.PathValue("workspace"))
}

// find gives the runner that a path names.
func (s *Server) find(r *http.Request) (*runner, error) {
	scope, _, _, err := s.scopeOf(r)
	if err != nil {
		return nil, err
	}
	for _, known := range s.runners {
		if known.scope == scope && known.uuid == r.PathValue("uuid") && !s.options.Clock.Now().Before(known.visibleOn) {
			return known, nil
		}
	}
	return nil, fail(http.StatusNotFound, "Runner %s not found", r.PathValue("uuid"))
}

// show is a runner on the wire, never with its secret.
func (s *Server) show(r *runner) map[string]any {
	state := map[string]any{
		"status": r.status(), "updated_on": r.updatedOn.UTC().Format(time.RFC3339Nano), "cordoned": false,
		"version": map[string]string{"version": "6.0.7", "current": "6.0.7"},
	}
	if r.step != nil && !s.options.HideStep {
		state["step"] = map[string]string{"type": "PIPELINE_STEP", "uuid": r.step.UUID}
	}
	return map[string]any{
		"uuid": r.uuid, "name": r.name, "labels": r.labels, "state": state,
		"created_on": r.createdOn.UTC().Format(time.RFC3339Nano), "updated_on": r.updatedOn.UTC().Format(time.RFC3339Nano),
		"oauth_client": map[string]any{"id": r.clientID, "token_endpoint": "", "audience": "api.atlassian.com"},
	}
}

func (s *Server) withEndpoint(r *http.Request, shown map[string]any) map[string]any {
	base := s.options.PublicURL
	if base == "" {
		base = "http://" + r.Host
	}
	if client, ok := shown["oauth_client"].(map[string]any); ok {
		changed := map[string]any{"token_endpoint": strings.TrimSuffix(base, "/") + "/_emulator/agent/token"}
		for key, value := range client {
			if key != "token_endpoint" {
				changed[key] = value
			}
		}
		shown["oauth_client"] = changed
	}
	return shown
}

func (s *Server) listRunners(w http.ResponseWriter, r *http.Request) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	scope, _, _, err := s.scopeOf(r)
	if err != nil {
		return err
	}
	fault := faultOf(r)
	var all []map[string]any
	switch {
	case fault.EmptyList:
	case fault.staleFor > 0:
		all = s.asOf(scope, s.options.Clock.Now().Add(-fault.staleFor))
	default:
		for _, known := range s.runners {
			if known.scope == scope && !s.options.Clock.Now().Before(known.visibleOn) {
				all = append(all, s.show(known))
			}
		}
	}
	page, pagelen, err := paging(r)
	if err != nil {
		return err
	}
	values := []map[string]any{}
	for _, shown := range all[min(len(all), (page-1)*pagelen):min(len(all), page*pagelen)] {
		values = append(values, s.withEndpoint(r, shown))
	}
	// pagelen echoes the number of items on the page, as seen live.
	body := map[string]any{"page": page, "values": values, "size": len(all), "pagelen": len(values)}
	link := func(n int) string {
		return fmt.Sprintf("http://%s%s?page=%d&pagelen=%d", r.Host, r.URL.EscapedPath(), n, pagelen)
	}
	if page*pagelen < len(all) {
		body["next"] = link(page + 1)
	}
	if page > 1 {
		body["previous"] = link(page - 1)
	}
	writeJSON(w, http.StatusOK, body)
	return nil
}

func (s *Server) asOf(scope string, at time.Time) []map[string]any {
	var shown []map[string]any
	for _, f := range slices.Backward(s.frames) {
		if f.at.After(at) {
			continue
		}
		for i, runner := range f.runners {
			if f.scopes[i] == scope {
				shown = append(shown, runner)
			}
		}
		break
	}
	return shown
}

func paging(r *http.Request) (page, pagelen int, err error) {
	page, pagelen = 1, 10
	for name, into := range map[string]*int{"page": &page, "pagelen": &pagelen} {
		if given := r.URL.Query().Get(name); given != "" {
			n, err := strconv.Atoi(given)
			if err != nil || n < 1 || n > 1e6 {
				return 0, 0, fail(http.StatusBadRequest, "Invalid %s: %q", name, given)
			}
			*into = n
		}
	}
	if pagelen > maxPageLen {
		return 0, 0, fail(http.StatusBadRequest, "Invalid pagelen: at most %d", maxPageLen)
	}
	return page, pagelen, nil
}

// newRunner is the body of a POST.
type newRunner struct {
	UUID   string   `json:"uuid"`
	Name   string   `json:"name"`
	Labels []string `json:"labels"`
}

func (n newRunner) validate() error {
	fields := map[string][]string{}
	if n.Name == "" || len(n.Name) > 50 {
		fields["name"] = []string{"want 1 to 50 characters"}
	}
	custom := 0
	for _, label := range n.Labels {
		if !labelForm.MatchString(label) {
			fields["labels"] = append(fields["labels"], fmt.Sprintf("%q: want lower-case letters, digits and dots", label))
		}
		if !slices.Contains(defaultLabels, label) {
			custom++
		}
	}
	if custom > maxLabels {
		fields["labels"] = append(fields["labels"], "at most 10 custom labels")
	}
	if len(n.Labels) == 0 {
		fields["labels"] = []string{"required"}
	}
	if n.UUID != "" {
		if _, err := uuid.Parse(strings.Trim(n.UUID, "{}")); err != nil {
			fields["uuid"] = []string{"not a uuid"}
		}
	}
	if len(fields) > 0 {
		return &apiError{status: http.StatusBadRequest, message: "Bad request", fields: fields}
	}
	return nil
}

func (s *Server) createRunner(w http.ResponseWriter, r *http.Request) error {
	var body newRunner
	if err := readJSON(r, &body, false); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	scope, _, _, err := s.scopeOf(r)
	if err != nil {
		return err
	}
	if err := body.validate(); err != nil {
		return err
	}
	registered := 0
	for _, known := range s.runners {
		if known.uuid == body.UUID {
			return fail(http.StatusConflict, "A runner with uuid %s exists already", body.UUID)
		}
		if known.scope == scope {
			registered++
		}
	}
	if registered >= maxRunners {
		return fail(http.StatusBadRequest, "Runner limit exceeded: at most %d runners", maxRunners)
	}
	now := s.options.Clock.Now()
	created := &runner{
		uuid: body.UUID, name: body.Name, labels: body.Labels, scope: scope, createdOn: now, updatedOn: now,
		visibleOn: now.Add(faultOf(r).applyAfter), clientID: uuid.NewString(), clientSecret: uuid.NewString(),
	}
	if created.uuid == "" {
		created.uuid = newUUID()
	}
	s.runners = append(s.runners, created)
	shown := s.withEndpoint(r, s.show(created))
	if client, ok := shown["oauth_client"].(map[string]any); ok {
		client["secret"] = created.clientSecret // this once
	}
	s.note(now)
	writeJSON(w, http.StatusOK, shown)
	return nil
}

func (s *Server) getRunner(w http.ResponseWriter, r *http.Request) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	known, err := s.find(r)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, s.withEndpoint(r, s.show(known)))
	return nil
}

func (s *Server) putRunner(w http.ResponseWriter, r *http.Request) error {
	var body newRunner
	if err := readJSON(r, &body, false); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	known, err := s.find(r)
	if err != nil {
		return err
	}
	body.UUID = ""
	if err := body.validate(); err != nil {
		return err
	}
	s.write(r, func() { known.name, known.labels, known.updatedOn = body.Name, body.Labels, s.options.Clock.Now() })
	writeJSON(w, http.StatusOK, s.withEndpoint(r, s.show(known)))
	return nil
}

func (s *Server) putState(w http.ResponseWriter, r *http.Request) error {
	var body struct {
		Status string `json:"status"`
	}
	if err := readJSON(r, &body, false); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	known, err := s.find(r)
	if err != nil {
		return err
	}
	if body.Status != "DISABLED" && body.Status != "ENABLED" {
		return fail(http.StatusBadRequest, "Invalid status %q", body.Status)
	}
	s.write(r, func() { known.disabled, known.updatedOn = body.Status == "DISABLED", s.options.Clock.Now() })
	writeJSON(w, http.StatusOK, s.withEndpoint(r, s.show(known)))
	return nil
}

func (s *Server) deleteRunner(w http.ResponseWriter, r *http.Request) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	known, err := s.find(r)
	if err != nil {
		return err
	}
	s.write(r, func() {
		if known.step != nil {
			s.counters.BusyRunnersDeleted++
			s.lose(known, CauseDeleted)
		}
		s.runners = slices.DeleteFunc(s.runners, func(other *runner) bool { return other == known })
	})
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// write applies a change now, or later where a fault says so.
func (s *Server) write(r *http.Request, apply func()) {
	if after := faultOf(r).applyAfter; after > 0 {
		s.late = append(s.late, lateWrite{at: s.options.Clock.Now().Add(after), apply: apply})
		return
	}
	apply()
}
