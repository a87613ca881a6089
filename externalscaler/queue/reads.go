package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/bitbucket/builds"
	"bitbucket-runner-scaler/bitbucket/pipelines"
)

// open returns the set's client. Called locked.
func (s *set) open() (Bitbucket, error) {
	client, err := s.queue.config.Client(s.name, s.namespace)
	if err != nil {
		return nil, fmt.Errorf("credentials %s: %w", s.name, err)
	}
	return client, nil
}

// resolve finds the UUID of a repository that a group names by its slug.
func (s *set) resolve(n *named) *read {
	n.reading = true
	var found bitbucket.Scope
	return &read{
		call: func(ctx context.Context, client Bitbucket) (err error) {
			found, err = client.ResolveScope(ctx, n.scope)
			return err
		},
		apply: func(err error, now time.Time) {
			n.reading, n.err = false, err
			if err != nil {
				n.due = s.retry(&n.failures, err, now)
				return
			}
			n.uuid, n.failures = found.Repository, 0
			s.own(bitbucket.Scope{Workspace: n.scope.Workspace, Repository: n.uuid}, now)
			if r := s.repositories[n.uuid]; r != nil && r.name == r.scope.Repository {
				r.name = n.scope.Repository
			}
		},
	}
}

// look looks for the repositories of a workspace that have changed.
func (s *set) look(w *workspace) *read {
	w.reading = true
	begun := s.queue.config.Clock.Now()
	var changed []builds.Repository
	return &read{
		call: func(ctx context.Context, client Bitbucket) (err error) {
			changed, err = builds.Updated(ctx, client, w.uuid)
			return err
		},
		apply: func(err error, now time.Time) {
			w.reading, w.err = false, err
			if err != nil {
				w.due = s.retry(&w.failures, err, now)
				return
			}
			w.failures = 0
			since := w.latest
			for _, r := range changed {
				w.latest = later(w.latest, r.UpdatedOn)
				// The first look has nothing to compare with: what changed in the last half hour
				// may have live pipelines.
				if since.IsZero() && changed[0].UpdatedOn.Sub(r.UpdatedOn) > forgetAfter || !since.IsZero() && !r.UpdatedOn.After(since) {
					continue
				}
				s.touch(w, r, now)
			}
			w.looked = begun
		},
	}
}

// touch notes that a repository has changed.
func (s *set) touch(w *workspace, found builds.Repository, now time.Time) {
	r := s.repositories[found.UUID]
	if r == nil {
		if r = s.add(bitbucket.Scope{Workspace: w.uuid, Repository: found.UUID}, now); r == nil {
			return
		}
	} else if missed := r.hookedAt.Before(found.UpdatedOn.Add(-missedAfter)); (missed || r.hookedSince.IsZero()) && r.pushedAt.IsZero() { // no delivery has said so
		r.pushedAt = now
	}
	r.touched = now
	if found.FullName != "" {
		r.name = slugOf(found.FullName)
	}
}

// list lists the live pipelines of a repository.
func (r *repository) list() *read {
	r.reading = true
	begun := r.set.queue.config.Clock.Now()
	var list []builds.Pipeline
	return &read{
		call: func(ctx context.Context, client Bitbucket) (err error) {
			list, err = builds.Live(ctx, client, r.scope)
			return err
		},
		apply: func(err error, now time.Time) {
			r.reading = false
			switch {
			case errors.Is(err, bitbucket.ErrNotFound) && !r.own && (len(r.builds) == 0 || r.failures >= notFoundRetries):
				delete(r.set.repositories, r.scope.Repository) // it was deleted, or there never was one
			case err != nil:
				r.listErr, r.retryAt = err, r.set.retry(&r.failures, err, now)
			default:
				r.live(list, begun, now)
			}
		},
	}
}

// readHinted reads a pipeline that a hint names.
func (r *repository) readHinted(id string, h *hinted) *read {
	h.reading = true
	var found builds.Pipeline
	return &read{
		call: func(ctx context.Context, client Bitbucket) (err error) {
			found, err = builds.One(ctx, client, r.scope, id)
			return err
		},
		apply: func(err error, now time.Time) {
			h.reading = false
			vain := errors.Is(err, bitbucket.ErrNotFound) || err == nil && found.Completed && !failedAtOnce(found)
			if vain && h.webhook && !r.wrong.AllowN(now, 1) {
				clear(r.hints) // so many of them name nothing
				r.listInstead(now)
				return
			}
			switch {
			case errors.Is(err, bitbucket.ErrNotFound) && h.webhook && h.failures < notFoundRetries: // it may not be there yet
				h.failures++
				h.due = now.Add(hintFloor << h.failures)
			case errors.Is(err, bitbucket.ErrNotFound):
				delete(r.hints, id)
			case err != nil && h.failures < hintRetries:
				h.due = r.set.retry(&h.failures, err, now)
			case err != nil: // one list does for all such hints
				delete(r.hints, id)
				if r.pushedAt.IsZero() {
					r.pushedAt = now
				}
			default:
				delete(r.hints, id)
				b := r.adopt(found, now)
				if b != nil && h.webhook {
					b.hinted, b.hintedAt = true, h.at
					if !b.Parsed {
						b.soon = now.Add(r.set.parseRetry(0))
					}
				}
				if h.webhook && found.Parsed {
					r.set.parsed(h.at, false, now)
				}
			}
		},
	}
}

// readBuild reads what is not known yet of a pipeline, and its steps.
func (r *repository) readBuild(b *build) *read {
	b.reading, b.soon = true, time.Time{}
	begun := r.set.queue.config.Clock.Now()
	known, defined, definition, failures := b.Pipeline, b.defined, b.definition, b.failures
	var steps []builds.Step
	listed, over := false, false
	return &read{
		call: func(ctx context.Context, client Bitbucket) (err error) {
			if !known.Parsed {
				var found builds.Pipeline
				if found, err = builds.One(ctx, client, r.scope, known.UUID); err == nil {
					known = found
				}
			}
			over = known.Completed && !failedAtOnce(known)
			if err == nil && !defined && known.Parsed && !over {
				definition, err = r.define(ctx, client, known)
				if errors.Is(err, bitbucket.ErrNotFound) && failures >= notFoundRetries {
					definition, err = pipelines.Pipeline{Selector: known.Selector, Unknown: fmt.Sprintf("there is no %s at its commit", builds.FileName)}, nil
				}
				defined = err == nil
			}
			if err == nil && defined && needsRunner(definition) && !over {
				steps, err = builds.Steps(ctx, client, r.scope, known.UUID)
				listed = err == nil
			}
			return err
		},
		apply: func(err error, now time.Time) {
			b.reading, b.tried = false, begun
			if known.Parsed && !b.Parsed && !b.hintedAt.IsZero() {
				r.set.parsed(b.hintedAt, true, now)
			}
			b.Pipeline = known
			if defined && !b.defined {
				b.define(definition)
			}
			switch {
			case errors.Is(err, bitbucket.ErrNotFound) && b.failures >= notFoundRetries, over:
				r.end(b, now)
			case errors.Is(err, bitbucket.ErrBudgetExhausted): // nothing is known of it
				b.err, b.soon = err, r.set.pausedUntil
			case err != nil:
				b.err = err
				b.fail(now, backoff(b.failures+1))
			case !known.Parsed:
				b.err = nil
				wait := min(hintFloor<<min(b.failures+1, 5), confirmInterval)
				if !b.hintedAt.IsZero() {
					wait = r.set.parseRetry(b.failures + 1)
				}
				b.fail(now, wait)
			case listed && len(steps) < len(b.definition.Steps) && b.read.IsZero() && b.failures < notFoundRetries:
				b.fail(now, hintFloor) // not all of them may be there yet
			case listed && b.take(steps, begun, now), known.Completed:
				r.end(b, now)
			default:
				b.failures, b.err = 0, nil
			}
		},
	}
}

// needsRunner reports whether a pipeline has steps that may need a runner of one's own. Of an
// unknown one that is not known.
func needsRunner(p pipelines.Pipeline) bool {
	for _, s := range p.Steps {
		if s.NeedsRunner() {
			return true
		}
	}
	return p.Unknown != ""
}

// define reads the definition of a pipeline from the file at its commit. What the file cannot
// say is unknown, which is no error. That there is none is an error, because Bitbucket can say that
// for a moment.
func (r *repository) define(ctx context.Context, client Bitbucket, p builds.Pipeline) (pipelines.Pipeline, error) {
	file, unknown, err := r.file(ctx, client, p.Commit, builds.FileName)
	if err != nil || unknown != "" {
		return pipelines.Pipeline{Selector: p.Selector, Unknown: unknown}, err
	}
	for range mostImports { // a file that is imported can import others
		imports := file.Imports()
		if len(imports) == 0 {
			break
		}
		imported, unknown, err := r.file(ctx, client, p.Commit, imports[0])
		missing := errors.Is(err, bitbucket.ErrNotFound)
		if err != nil && !missing {
			return pipelines.Pipeline{}, err
		}
		if missing || unknown != "" {
			break // Select says which pipelines that affects
		}
		file = file.With(imports[0], imported)
	}
	return file.Select(p.Selector), nil
}

// file returns a file of a commit, or why nothing can be said of it.
func (r *repository) file(ctx context.Context, client Bitbucket, commit, path string) (file *pipelines.File, unknown string, err error) {
	key := fileKey{repository: r.scope.Repository, commit: commit, path: path}
	cache := r.set.queue.files
	if known, ok := cache.Get(key); ok {
		return known, "", nil
	}
	data, err := builds.File(ctx, client, r.scope, commit, path)
	if err != nil {
		return nil, "", err
	}
	file, err = pipelines.Parse(data)
	if file == nil {
		return nil, fmt.Sprintf("%s cannot be read: %v", path, err), nil
	}
	if len(data) <= cachedSize {
		cache.Add(key, file)
	}
	return file, "", nil
}
