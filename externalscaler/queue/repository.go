package queue

import (
	"slices"
	"strconv"
	"strings"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/bitbucket/builds"
	"bitbucket-runner-scaler/bitbucket/pipelines"
)

// repository is a repository that is looked at.
type repository struct {
	set   *set
	scope bitbucket.Scope // by UUIDs
	// name is for people: the slug once it is known, until then the UUID.
	name string
	// own is true if a group names it.
	own bool
	// since is when it was first known, and touched the last sign of life.
	since, touched time.Time
	// hookedAt is when the last delivery came, and hookedSince when the first of an unbroken
	// series did; zero while webhooks are not known to arrive.
	hookedAt, hookedSince time.Time
	builds                map[string]*build // the live ones, by UUID
	// ended are pipelines that have ended, by UUID.
	ended *lru.Cache[string, endedBuild]
	// asked are the labels of failed steps of pipelines that have ended, for a while.
	asked []asked
	// hints are the pipelines to read, by build number or UUID.
	hints map[string]*hinted
	// wrong bounds the deliveries that name a pipeline which there is not, or which has ended: anyone
	// who can set the status of a commit can have them sent.
	wrong *rate.Limiter

	listed   time.Time // when the last list was begun; zero if there is none
	retryAt  time.Time // when the first list, or the next one after a failure, may be tried
	pushedAt time.Time // when a push asked for a list; zero if none does
	listErr  error
	failures int
	reading  bool
}

// hinted is a pipeline that a hint names.
type hinted struct {
	// webhook is true if a webhook names it, and not a runner.
	webhook  bool
	at       time.Time
	due      time.Time
	failures int
	reading  bool
}

// endedBuild is what is remembered of a pipeline that has ended.
type endedBuild struct {
	at    time.Time
	build int
}

func newRepository(s *set, in bitbucket.Scope, now time.Time) *repository {
	ended, err := lru.New[string, endedBuild](mostEnded)
	if err != nil {
		panic(err) // the size is a positive constant
	}
	return &repository{set: s, scope: in, name: in.Repository, since: now, touched: now, retryAt: now, builds: map[string]*build{}, ended: ended, hints: map[string]*hinted{}, wrong: rate.NewLimiter(rate.Every(time.Minute), wrongAtOnce)}
}

// take takes a hint.
func (r *repository) take(h Hint, now time.Time) bool {
	r.touched, r.hookedAt = now, now
	if r.hookedSince.IsZero() {
		r.hookedSince = now
	}
	id := h.Pipeline
	if id == "" && h.Build > 0 {
		id = strconv.Itoa(h.Build)
	}
	if id == "" { // a push, or something like it
		if !h.Over && r.pushedAt.IsZero() {
			r.pushedAt = now.Add(pushDelay)
		}
		return true
	}
	if !h.Over && r.pushedAt.After(now) { // the push has its pipeline
		r.pushedAt = time.Time{}
	}
	if b := r.find(h); b != nil {
		b.hinted = true
		b.hint(h.Over, now)
		return true
	}
	if h.Over {
		return true // nothing of it waits any more
	}
	if r.hasEnded(h, now) {
		return true // a late or repeated delivery
	}
	if r.wrong.TokensAt(now) < 1 {
		r.listInstead(now)
		return true
	}
	return r.hint(id, true, now)
}

// listInstead has a list stand for deliveries that name pipelines.
func (r *repository) listInstead(now time.Time) {
	if r.pushedAt.IsZero() {
		r.pushedAt = later(now.Add(pushDelay), r.listed.Add(ownInterval))
	}
}

// hint notes a pipeline to read. It reports false if too many wait.
func (r *repository) hint(id string, webhook bool, now time.Time) bool {
	if _, known := r.hints[id]; known {
		return true
	}
	if len(r.hints) >= mostHints {
		return false
	}
	h := &hinted{webhook: webhook, at: now, due: now}
	if webhook {
		h.due = now.Add(r.set.parsing)
	}
	for _, other := range r.hints { // it may be of the same pipeline, by its number
		if !webhook && other.webhook && other.failures == 0 {
			h.due = later(h.due, other.due.Add(parseFloor))
		}
	}
	r.hints[id] = h
	return true
}

func (r *repository) find(h Hint) *build {
	if b := r.builds[h.Pipeline]; b != nil {
		return b
	}
	for _, b := range r.builds {
		if h.Build > 0 && b.Build == h.Build {
			return b
		}
	}
	return nil
}

// hasEnded reports whether a pipeline has ended just now. Later hints of it come from a rerun.
func (r *repository) hasEnded(h Hint, now time.Time) bool {
	if e, ok := r.ended.Get(h.Pipeline); ok {
		return now.Sub(e.at) < endedFor
	}
	for _, uuid := range r.ended.Keys() {
		if e, ok := r.ended.Peek(uuid); ok && h.Build > 0 && e.build == h.Build {
			return now.Sub(e.at) < endedFor
		}
	}
	return false
}

// asked is a step that has failed, perhaps because no runner has its labels.
type asked struct {
	Step
	until time.Time
}

// end forgets a pipeline that has ended, except the labels of its failed steps.
func (r *repository) end(b *build, now time.Time) {
	delete(r.builds, b.UUID)
	r.asked = slices.DeleteFunc(r.asked, func(a asked) bool { return a.until.Before(now) })
	for _, step := range b.asks() {
		if len(r.asked) < mostAsked {
			r.asked = append(r.asked, asked{step, now.Add(askedFor)})
		}
	}
	r.ended.Add(b.UUID, endedBuild{at: now, build: b.Build})
}

// adopt makes a pipeline that was read known, or brings a known one up to date.
func (r *repository) adopt(p builds.Pipeline, now time.Time) *build {
	if p.Repository.FullName != "" {
		r.name = slugOf(p.Repository.FullName)
	}
	b := r.builds[p.UUID]
	switch {
	case b == nil && (p.Completed && !failedAtOnce(p) || len(r.builds) >= mostBuilds):
		return nil
	case b == nil:
		b = newBuild(r, p, now)
		r.builds[p.UUID] = b
		r.ended.Remove(p.UUID)
	default:
		if p.Parsed && (!b.Parsed || p.Selector != b.Selector || p.Commit != b.Commit) {
			b.defined, b.soon = false, now // it was not parsed, or is another definition now
		}
		if p.Run > b.Run && b.Run > 0 {
			b.soon = now // it is run again
		}
		b.Pipeline = p
	}
	for _, id := range []string{p.UUID, strconv.Itoa(p.Build)} {
		if h := r.hints[id]; h != nil && h.webhook && !b.hinted {
			b.hinted, b.hintedAt = true, h.at
		}
		delete(r.hints, id)
	}
	r.touched = now
	return b
}

// failedAtOnce reports whether a pipeline has failed so soon that no runner may have been online
// for it.
func failedAtOnce(p builds.Pipeline) bool {
	return p.Completed && p.Parsed && p.Result != pipelines.ResultSuccessful && p.Result != pipelines.ResultStopped && p.CompletedOn.Sub(p.CreatedOn) < missedAfter
}

// live takes a list of the live pipelines.
func (r *repository) live(list []builds.Pipeline, begun, now time.Time) {
	seen := map[string]bool{}
	for _, p := range list {
		seen[p.UUID] = true
		r.adopt(p, now)
	}
	for uuid, b := range r.builds {
		if !seen[uuid] && b.since.Before(begun) {
			b.missed(now)
		}
		if !b.hinted && !r.hookedSince.IsZero() && b.since.After(r.hookedSince) && now.Sub(b.since) > missedAfter {
			r.hookedAt, r.hookedSince = time.Time{}, time.Time{} // its webhook did not arrive
		}
	}
	r.listed, r.listErr, r.failures, r.pushedAt = begun, nil, 0, time.Time{}
}

// interval is the time between two lists; 0 for never.
func (r *repository) interval(now time.Time) time.Duration {
	live := false
	for _, b := range r.builds {
		live = live || !b.idle()
	}
	if r.hookedSince.IsZero() {
		return PollInterval(live, r.own)
	}
	last := r.hookedAt
	if w := r.set.workspaces[r.scope.Workspace]; w != nil && w.hookedAt.After(last) {
		last = w.hookedAt
	}
	if !live && now.Sub(last) < hooksBelieved {
		return 0 // a delivery would have said so
	}
	return HookedInterval
}

// PollInterval is the time between two lists of a repository without webhooks. live is true if it has
// pipelines that may need a runner, and own if a group names the repository.
func PollInterval(live, own bool) time.Duration {
	switch {
	case live:
		return hotInterval
	case own:
		return ownInterval
	}
	return foundInterval
}

// forgotten reports whether nothing has happened in a found repository for long.
func (r *repository) forgotten(now time.Time) bool {
	return !r.own && len(r.builds) == 0 && len(r.hints) == 0 && !r.reading && now.Sub(r.touched) > forgetAfter
}

// slugOf returns the slug in a full name.
func slugOf(fullName string) string { return fullName[strings.LastIndexByte(fullName, '/')+1:] }
