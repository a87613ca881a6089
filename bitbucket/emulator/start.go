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
		Target pipelines.Request `json:"target"`
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
		if file, ok = repo.source.Read(target.Commit); !ok {
			return failure(http.StatusBadRequest, fmt.Sprintf("There is no %s at commit %s", source.File, target.Commit))
		}
	}
	p, err := s.start(repo, target, wanted, file, pipelines.TriggerManual, c.now)
	if err != nil {
		return failure(http.StatusBadRequest, err.Error())
	}
	body := p.Body(c.site(), Username)
	a := jsonAnswer(http.StatusCreated, body)
	a.header = map[string]string{"Location": body.Links["self"].Href}
	return a
}

// start creates the pipeline that a file defines. Its steps are reached once it is parsed.
// A file that cannot be read makes a pipeline in error.
func (s *Server) start(repo *repository, target pipelines.Target, wanted definition.Wanted, file []byte, trigger string, now time.Time) (*pipelines.Pipeline, error) {
	read, err := definition.Read(file, wanted)
	if errors.Is(err, definition.ErrNoPipeline) {
		return nil, err
	}
	if !s.hasRoom(definition.MaxSteps) {
		return nil, fmt.Errorf("more than %d steps are open", maxOpenSteps)
	}
	p := s.create(repo, target, trigger, now)
	p.Parsing = true
	if err != nil {
		p.Fault = err.Error()
	} else {
		p.Define(read, newUUID)
	}
	s.parsing = append(s.parsing, p)
	s.announce(p, now)
	s.advance(now) // without a lag it is parsed at once
	return p, nil
}

// pushFile is the control that pushes a commit with a file, which starts its pipeline.
func (s *Server) pushFile(c *call) answer {
	var given PushRequest
	if refusal, ok := decodeStrict(c.body, &given); !ok {
		return refusal
	}
	repo, ok := s.findRepository(given.Workspace, given.Repository)
	if !ok {
		return failure(http.StatusBadRequest, fmt.Sprintf("workspace, repository: no %q in %q", given.Repository, given.Workspace))
	}
	if given.Branch == "" {
		given.Branch = mainBranch
	}
	pushed := &source.Commit{}
	if given.File != "" {
		pushed.File = []byte(given.File)
	}
	answered := Pushed{Commit: s.push(repo, given.Branch, pushed, c.now)}
	if pushed.File != nil {
		target := pipelines.Target{Kind: pipelines.RefTarget, RefType: "branch", RefName: given.Branch, Commit: answered.Commit}
		wanted := definition.Wanted{RefType: "branch", RefName: given.Branch}
		p, err := s.start(repo, target, wanted, pushed.File, pipelines.TriggerPush, c.now)
		switch {
		case err == nil:
			answered.Pipeline = p.UUID
		case !errors.Is(err, definition.ErrNoPipeline):
			return failure(http.StatusBadRequest, err.Error())
		}
	}
	return jsonAnswer(http.StatusOK, answered)
}
