// Package past makes a workload of the pipelines that repositories at Bitbucket have had: when each
// began, how long its steps took, and which runners they asked for. It only reads, and the number of
// its calls is bounded.
package past

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/bitbucket/builds"
	"bitbucket-runner-scaler/bitbucket/pipelines"
	"bitbucket-runner-scaler/externalscaler/simulate/workload"
)

// Bitbucket is what is read.
type Bitbucket interface {
	builds.Getter
	ResolveScope(ctx context.Context, scope bitbucket.Scope) (bitbucket.Scope, error)
}

// Period says what to read.
type Period struct {
	// Scope is a workspace, of which the repositories are read that have changed lately, or one
	// repository.
	Scope bitbucket.Scope
	// Since bounds the pipelines: those that began earlier are left out.
	Since time.Time
	// Calls bounds the calls to Bitbucket.
	Calls int
}

// Past is what was read.
type Past struct {
	Workload workload.Workload
	// Calls is how many calls it took.
	Calls int
	// Notes say what the workload lacks, and why.
	Notes []string
}

// errCalls says that the bound of the calls is reached.
var errCalls = errors.New("no calls are left")

// Read reads the pipelines of a period. If the calls do not suffice, the workload has the latest ones,
// and a note says so.
func Read(ctx context.Context, from Bitbucket, period Period) (Past, error) {
	r := &reader{bounded: &bounded{from: from, left: period.Calls}, since: period.Since, left: map[string]int{}}
	in, err := from.ResolveScope(ctx, period.Scope)
	if err != nil {
		return Past{}, fmt.Errorf("read the past of %s: %w", period.Scope, err)
	}
	repositories, err := r.repositories(ctx, in)
	if err != nil {
		return Past{}, fmt.Errorf("read the past of %s: %w", period.Scope, err)
	}
	all, err := r.pipelines(ctx, repositories)
	if err == nil {
		err = r.details(ctx, all)
	}
	if err != nil && !errors.Is(err, errCalls) {
		return Past{}, fmt.Errorf("read the past of %s: %w", period.Scope, err)
	}
	w := workload.New(fmt.Sprintf("%s since %s", period.Scope, period.Since.UTC().Format(time.DateTime)), r.made)
	return Past{Workload: w, Calls: period.Calls - r.bounded.left, Notes: r.notes(err, len(all))}, nil
}

// bounded makes a bounded number of calls.
type bounded struct {
	from builds.Getter
	left int
}

// Get implements builds.Getter.
func (b *bounded) Get(ctx context.Context, class bitbucket.Class, route, path string, query url.Values) ([]byte, error) {
	if b.left == 0 {
		return nil, errCalls
	}
	b.left--
	return b.from.Get(ctx, class, route, path, query)
}

type reader struct {
	bounded *bounded
	since   time.Time
	made    []workload.Pipeline
	left    map[string]int // how many pipelines were left out, by reason
	files   map[string]*pipelines.File
}

// run is one pipeline of a repository.
type run struct {
	builds.Pipeline
	in   bitbucket.Scope
	name string // of the repository
}

// repositories returns the repositories to read, by their names.
func (r *reader) repositories(ctx context.Context, in bitbucket.Scope) ([]builds.Repository, error) {
	if in.Repository != "" {
		return []builds.Repository{{UUID: in.Repository, FullName: in.Workspace + "/" + in.Repository}}, nil
	}
	all, err := builds.Updated(ctx, r.bounded, in.Workspace)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(repository builds.Repository) bool {
		return !repository.UpdatedOn.IsZero() && repository.UpdatedOn.Before(r.since)
	}), nil
}

// pipelines lists the pipelines of all repositories, the newest first.
func (r *reader) pipelines(ctx context.Context, repositories []builds.Repository) ([]run, error) {
	var all []run
	for _, repository := range repositories {
		workspace, slug, _ := strings.Cut(repository.FullName, "/")
		in := bitbucket.Scope{Workspace: workspace, Repository: repository.UUID}
		for number, more := 1, true; more; number++ {
			page, last, err := builds.Page(ctx, r.bounded, in, number)
			if err != nil {
				return all, err
			}
			more = !last
			for _, p := range page {
				if p.CreatedOn.Before(r.since) {
					more = false // they are sorted
					break
				}
				name := slug
				if full := p.Repository.FullName; full != "" {
					name = full[strings.LastIndexByte(full, '/')+1:]
				}
				all = append(all, run{p, in, name})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b run) int { return b.CreatedOn.Compare(a.CreatedOn) })
	return all, nil
}

// details reads what the pipelines were made of, the newest first.
func (r *reader) details(ctx context.Context, all []run) error {
	r.files = map[string]*pipelines.File{}
	for _, p := range all {
		if !p.Completed || !p.Parsed {
			r.left["had not ended or was not parsed"]++
			continue
		}
		definition, err := r.definition(ctx, p)
		if err != nil {
			return err
		}
		steps, err := builds.Steps(ctx, r.bounded, p.in, p.UUID)
		if err != nil {
			return err
		}
		reported := make([]pipelines.Reported, len(steps))
		for i, s := range steps {
			reported[i] = s.Reported
		}
		if _, unknown := definition.Align(reported); unknown != "" {
			r.left[unknown]++
			continue
		}
		r.made = append(r.made, made(p, definition, steps)...)
	}
	return nil
}

// definition returns the definition of a pipeline from the file at its commit.
func (r *reader) definition(ctx context.Context, p run) (pipelines.Pipeline, error) {
	key := p.in.Repository + "\x00" + p.Commit
	file, known := r.files[key]
	if !known {
		data, err := builds.File(ctx, r.bounded, p.in, p.Commit, builds.FileName)
		switch {
		case errors.Is(err, bitbucket.ErrNotFound):
		case err != nil:
			return pipelines.Pipeline{}, err
		default:
			file, _ = pipelines.Parse(data) // what has faults is nil or in part unknown
		}
		r.files[key] = file
	}
	if file == nil {
		return pipelines.Pipeline{Unknown: "there is no readable " + builds.FileName + " at its commit"}, nil
	}
	return file.Select(p.Selector), nil
}

// made makes pipelines of one run: one that begins with it, and one for each step that a person has
// started.
func made(p run, definition pipelines.Pipeline, steps []builds.Step) []workload.Pipeline {
	parts := map[int]*workload.Pipeline{} // by the step with which they begin; -1 for the run itself
	type place struct{ part, at int }
	places := make([]place, len(steps))
	for i, s := range steps {
		before := definition.Predecessors(i)
		part := -1
		for _, b := range before {
			part = max(part, places[b].part)
		}
		at := p.CreatedOn
		if definition.Steps[i].FromHand && !s.StartedOn.IsZero() {
			part, at = i, s.StartedOn
		}
		places[i] = place{part: part, at: -1}
		if s.Duration <= 0 {
			continue // it did not run
		}
		if parts[part] == nil {
			parts[part] = &workload.Pipeline{At: at, Repository: p.name, Kind: p.Selector.String()}
		}
		step := workload.Step{Name: unique(parts[part].Steps, definition.Steps[i].Title()), Labels: definition.Steps[i].Labels, Duration: s.Duration}
		for _, b := range before {
			if places[b].part == part && places[b].at >= 0 {
				step.After = append(step.After, places[b].at)
			}
		}
		places[i].at = len(parts[part].Steps)
		parts[part].Steps = append(parts[part].Steps, step)
	}
	var all []workload.Pipeline
	for _, key := range slices.Sorted(maps.Keys(parts)) {
		if slices.ContainsFunc(parts[key].Steps, func(s workload.Step) bool { return len(s.Labels) > 0 }) {
			all = append(all, *parts[key])
		}
	}
	return all
}

// unique returns a name that none of the steps has, and that CSV can hold.
func unique(steps []workload.Step, name string) string {
	name = strings.ReplaceAll(name, ";", ",")
	given := name
	for n := 2; slices.ContainsFunc(steps, func(s workload.Step) bool { return s.Name == name }); n++ {
		name = fmt.Sprintf("%s (%d)", given, n)
	}
	return name
}

// mostNotes bounds the reasons that are named.
const mostNotes = 5

// notes says what is left out.
func (r *reader) notes(err error, all int) (notes []string) {
	if errors.Is(err, errCalls) {
		notes = append(notes, fmt.Sprintf("the calls sufficed for %d of at least %d pipelines, the newest ones", len(r.made), all))
	}
	reasons := slices.SortedFunc(maps.Keys(r.left), func(a, b string) int { return cmp.Or(cmp.Compare(r.left[b], r.left[a]), cmp.Compare(a, b)) })
	for _, reason := range reasons[:min(len(reasons), mostNotes)] {
		notes = append(notes, fmt.Sprintf("%d left out: %s", r.left[reason], reason))
	}
	return notes
}
