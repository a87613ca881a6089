// Package builds reads pipelines, their steps and the files that define them from Bitbucket
// Cloud. It decodes what package queue needs and nothing else, and decides nothing.
package builds

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/bitbucket/pipelines"
)

// FileName is the path of the file that defines a repository's pipelines.
const FileName = "bitbucket-pipelines.yml"

const (
	pageLength = 100
	// maxPages bounds the live pipelines of a repository: 500 of them.
	maxPages = 5
)

// liveStatuses are the values of the status filter for pipelines that have not ended. They are
// not the names of states.
var liveStatuses = []string{"PARSING", "PENDING", "BUILDING", "PAUSED", "HALTED"}

// Getter reads a resource of the API, as bitbucket.Client does.
type Getter interface {
	Get(ctx context.Context, class bitbucket.Class, route, path string, query url.Values) ([]byte, error)
}

// Pipeline is one run of a pipeline.
type Pipeline struct {
	UUID string
	// Build is the build number, which counts per repository. Run counts the reruns of the
	// pipeline, from 1; 0 if it is not known.
	Build, Run int
	// Completed is true once the pipeline has ended, with Result.
	Completed              bool
	Result                 string
	CreatedOn, CompletedOn time.Time
	// Repository has the UUIDs and the full name of the repository, as far as the answer has
	// them.
	Repository Repository
	// Commit is the hash of the commit that it runs on.
	Commit string
	// Selector names the pipeline's definition in the file. Parsed is false while Bitbucket has
	// not chosen one yet.
	Selector pipelines.Selector
	Parsed   bool
}

// Step is one step of a run.
type Step struct {
	UUID string
	pipelines.Reported
	// Run counts the reruns, from 1; 0 if it is not known.
	Run int
	// StartedOn is when it began; zero if it has not.
	StartedOn time.Time
	// Duration of a completed step; 0 if it is not known.
	Duration time.Duration
}

// Repository is a repository of a workspace.
type Repository struct {
	UUID string
	// FullName is workspace/repository by slugs.
	FullName  string
	UpdatedOn time.Time
}

// Live returns the pipelines of a repository that have not ended, newest first.
func Live(ctx context.Context, from Getter, in bitbucket.Scope) ([]Pipeline, error) {
	var live []Pipeline
	for number := 1; ; number++ {
		found, last, err := page(ctx, from, in, liveStatuses, number)
		live = append(live, found...)
		switch {
		case err != nil:
			return nil, err
		case last:
			return live, nil
		case number == maxPages:
			return nil, fmt.Errorf("list the pipelines of %s: %w: more than %d pipelines are live", in, bitbucket.ErrUnavailable, len(live))
		}
	}
}

// Page returns a page of all pipelines of a repository, newest first, and whether it is the last one.
// Pages are numbered from 1.
func Page(ctx context.Context, from Getter, in bitbucket.Scope, number int) (found []Pipeline, last bool, err error) {
	return page(ctx, from, in, nil, number)
}

func page(ctx context.Context, from Getter, in bitbucket.Scope, statuses []string, at int) (found []Pipeline, last bool, err error) {
	route, path := pathOf(in, "/pipelines")
	query := url.Values{"sort": {"-created_on"}, "pagelen": {strconv.Itoa(pageLength)}, "page": {strconv.Itoa(at)}}
	if len(statuses) > 0 {
		query["status"] = statuses
	}
	var answer struct {
		Values  []wirePipeline  `json:"values"`
		Size    json.RawMessage `json:"size"`
		Pagelen json.RawMessage `json:"pagelen"`
	}
	if err := get(ctx, from, route, path, query, &answer); err != nil {
		return nil, false, fmt.Errorf("list the pipelines of %s: %w", in, err)
	}
	for _, p := range answer.Values {
		if p.UUID != "" {
			found = append(found, p.pipeline())
		}
	}
	size := number(answer.Size)
	last = at*max(number(answer.Pagelen), 1) >= size
	if size == 0 { // it is missing
		last = len(answer.Values) < pageLength
	}
	return found, last || len(answer.Values) == 0, nil
}

// One returns a pipeline by its UUID or its build number.
func One(ctx context.Context, from Getter, in bitbucket.Scope, id string) (Pipeline, error) {
	route, path := pathOf(in, "/pipelines/")
	var answer wirePipeline
	if err := get(ctx, from, route+"{pipeline_uuid}", path+url.PathEscape(id), nil, &answer); err != nil {
		return Pipeline{}, fmt.Errorf("read pipeline %s of %s: %w", id, in, err)
	}
	p := answer.pipeline()
	if p.UUID == "" {
		return Pipeline{}, fmt.Errorf("read pipeline %s of %s: %w: the answer has no uuid", id, in, bitbucket.ErrUnavailable)
	}
	return p, nil
}

// Steps returns the steps of a pipeline in their order.
func Steps(ctx context.Context, from Getter, in bitbucket.Scope, id string) ([]Step, error) {
	route, path := pathOf(in, "/pipelines/")
	var answer struct {
		Values []wireStep `json:"values"`
	}
	query := url.Values{"pagelen": {strconv.Itoa(pageLength)}}
	if err := get(ctx, from, route+"{pipeline_uuid}/steps", path+url.PathEscape(id)+"/steps", query, &answer); err != nil {
		return nil, fmt.Errorf("read the steps of pipeline %s of %s: %w", id, in, err)
	}
	steps := make([]Step, len(answer.Values))
	for i, s := range answer.Values {
		steps[i] = s.step()
	}
	return steps, nil
}

// File returns a file as it is in a commit.
func File(ctx context.Context, from Getter, in bitbucket.Scope, commit, name string) ([]byte, error) {
	route, path := pathOf(in, "/src/")
	parts := strings.Split(name, "/")
	for i, part := range parts {
		parts[i] = url.PathEscape(part)
	}
	data, err := from.Get(ctx, bitbucket.ClassQueue, route+"{commit}/{path}", path+url.PathEscape(commit)+"/"+strings.Join(parts, "/"), nil)
	if err != nil {
		return nil, fmt.Errorf("read %s of %s at %s: %w", name, in, commit, err)
	}
	return data, nil
}

// Updated returns the repositories of a workspace that have changed most recently, newest first,
// at most one page.
func Updated(ctx context.Context, from Getter, workspace string) ([]Repository, error) {
	query := url.Values{"sort": {"-updated_on"}, "pagelen": {strconv.Itoa(pageLength)}, "fields": {"values.uuid,values.full_name,values.updated_on"}}
	var answer struct {
		Values []wireRepository `json:"values"`
	}
	if err := get(ctx, from, "/2.0/repositories/{workspace}", "/2.0/repositories/"+url.PathEscape(workspace), query, &answer); err != nil {
		return nil, fmt.Errorf("list the repositories of %s: %w", workspace, err)
	}
	var repositories []Repository
	for _, r := range answer.Values {
		if bitbucket.IsUUID(r.UUID) {
			repositories = append(repositories, r.repository())
		}
	}
	return repositories, nil
}

// root is before all routes.
const root = "/2.0"

// pathOf returns the template and the path of something in a workspace or repository.
func pathOf(in bitbucket.Scope, below string) (route, path string) {
	route, path = in.Route()
	return root + route + below, root + path + below
}

func get(ctx context.Context, from Getter, route, path string, query url.Values, into any) error {
	body, err := from.Get(ctx, bitbucket.ClassQueue, route, path, query)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("%w: decode the answer: %w", bitbucket.ErrUnavailable, err)
	}
	return nil
}
