package emulator

import (
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"time"

	"bitbucket-runner-scaler/bitbucket/emulator/definition"
	"bitbucket-runner-scaler/bitbucket/emulator/pipelines"
	"bitbucket-runner-scaler/bitbucket/emulator/resource"
	"bitbucket-runner-scaler/bitbucket/emulator/source"
	"bitbucket-runner-scaler/bitbucket/emulator/webhooks"
)

const mainBranch = resource.MainBranch

// startPipeline starts a pipeline from a target in JSON, or from YAML with the target in the
// query, by its paths in the JSON.
func (s *Server) startPipeline(c *call) answer {
	repo, refusal, ok := s.repositoryOf(c)
	if !ok {
		return refusal
	}
	var given struct {
		Target    pipelines.Request   `json:"target"`
		Variables pipelines.Variables `json:"variables"`
	}
	var file []byte
	switch kind, _, _ := mime.ParseMediaType(c.Header.Get("Content-Type")); kind {
	case "application/yaml", "application/x-yaml", "text/yaml":
		file, given.Target = c.body, pipelines.InQuery(c.URL.Query())
	default:
		if err := json.Unmarshal(c.body, &given); err != nil {
			return failure(http.StatusBadRequest, "The request body is not a pipeline: "+err.Error())
		}
	}
	target, wanted, err := given.Target.Read(repo.source)
	if err != nil {
		return failure(http.StatusBadRequest, err.Error())
	}
	if file == nil {
		if file, ok = repo.source.Read(target.Commit, source.File); !ok {
			return failure(http.StatusBadRequest, fmt.Sprintf("There is no %s at commit %s", source.File, target.Commit))
		}
	}
	read, fault := definition.Parse(file, filesOf{s, repo, target.Commit})
	p, err := s.start(repo, pipelines.Order{
		Target: target, File: read, Fault: fault, Wanted: wanted, Trigger: pipelines.TriggerManual, Variables: given.Variables.Map(),
	}, c.now)
	if err != nil {
		return failure(http.StatusBadRequest, err.Error())
	}
	body := p.Body(c.site(), Username)
	a := jsonAnswer(http.StatusCreated, body)
	a.header = map[string]string{"Location": body.Links["self"].Href}
	return a
}

// start starts a pipeline in a repository.
func (s *Server) start(repo *repository, order pipelines.Order, now time.Time) (*pipelines.Pipeline, error) {
	order.Repository, order.Changes = repo, repo.source.Changes(order.Target.Commit)
	p, err := s.pipelines.Start(order, now)
	s.dispatch(now)
	return p, err
}

// pushFile is the control that pushes a commit with files, which starts its pipelines.
func (s *Server) pushFile(c *call) answer {
	var given PushRequest
	if refusal, ok := decodeStrict(c.body, &given); !ok {
		return refusal
	}
	repo, ok := s.findRepository(given.Workspace, given.Repository)
	if !ok {
		return failure(http.StatusBadRequest, fmt.Sprintf("workspace, repository: no %q in %q", given.Repository, given.Workspace))
	}
	if err := given.Check(); err != nil {
		return failure(http.StatusBadRequest, err.Error())
	}
	_, ref := given.Ref()
	var answered Pushed
	if given.Names() {
		if answered.Commit = repo.source.Head(given.Branch); answered.Commit == "" {
			return failure(http.StatusBadRequest, fmt.Sprintf("branch: no %q", given.Branch))
		}
		s.pushed(repo, ref, repo.source.Head(ref), answered.Commit, c.now)
		repo.source.Name(ref, answered.Commit)
	} else {
		answered.Commit = s.push(repo, ref, given.Commit(), c.now)
	}
	if given.PullRequest != "" {
		s.changePullRequest(repo, webhooks.PullRequestPush, given.Branch, c.now)
	}
	file, ok := repo.source.Read(answered.Commit, source.File)
	if !ok {
		return jsonAnswer(http.StatusOK, answered)
	}
	if given.Runs != "" {
		file = []byte(given.Runs)
	}
	read, fault := definition.Parse(file, filesOf{s, repo, answered.Commit})
	for _, order := range given.Orders(read, answered.Commit) {
		order.File, order.Fault = read, fault
		p, err := s.start(repo, order, c.now)
		switch {
		case err == nil:
			answered.Pipelines = append(answered.Pipelines, p.UUID)
			answered.Pipeline = answered.Pipelines[0]
		case !errors.Is(err, definition.ErrNoPipeline):
			return failure(http.StatusBadRequest, err.Error())
		}
	}
	return jsonAnswer(http.StatusOK, answered)
}
