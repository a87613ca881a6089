package trace

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	oteltrace "go.opentelemetry.io/otel/trace"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/fleet"
)

// life is what was seen of one runner and its Job. A time that is zero was not seen.
type life struct {
	ctx     context.Context //nolint:containedctx // it carries the root span
	root    oteltrace.Span
	group   fleet.GroupKey
	created time.Time // of the Job
	pod     fleet.Pod
	// runner is its UUID, and name its name at Bitbucket.
	runner, name string
	// incomplete is true if the runner was online before this process looked.
	incomplete bool
	// started is true once the spans of the start are exported.
	started bool
	// registered and online are milestones of its start. draining is when it was to take no
	// further step, and stopping when it was told to stop or stopped by itself.
	registered, online, draining, stopping time.Time
	// waits is the last cause for which it does not start.
	waits string
	step  *step
	// last is the UUID of the step that ended last, and steps how many have.
	last  string
	steps int
}

// begin begins the trace of a runner.
func (f *following) begin(group *fleet.GroupSnapshot, m *fleet.Member, now time.Time) *life {
	l := &life{group: group.GroupKey, created: m.Job.CreatedOn}
	begun := l.created
	options := []oteltrace.SpanStartOption{oteltrace.WithAttributes(ofJobs(group, m.Job)...)}
	asked, ok := f.calls.before(group.GroupKey, l.created)
	if ok {
		if asked.at.Before(begun) {
			begun = asked.at
		}
		options = append(options, oteltrace.WithLinks(oteltrace.Link{SpanContext: asked.span}))
	}
	l.ctx, l.root = f.tracer.Start(ofJob(m.Job.UID), "runner", append(options, oteltrace.WithNewRoot(), oteltrace.WithTimestamp(begun))...)
	if ok {
		l.root.AddEvent("decision", oteltrace.WithTimestamp(asked.at), oteltrace.WithAttributes(decided(asked.decision)...))
	}
	l.incomplete = online(m)
	l.last = m.Telemetry.Run.Ended.Step
	if m.Runner != nil { // it registered before this process looked
		l.registered = now.Add(-m.Age)
	}
	return l
}

// online reports whether a member's runner is online, or was.
func online(m *fleet.Member) bool {
	return !m.Telemetry.OnlineSince.IsZero() || m.Runner != nil && m.Runner.State.Status != bitbucket.StatusUnregistered
}

// see takes what a snapshot shows of a runner.
func (f *following) see(l *life, m *fleet.Member, now time.Time, names *names) {
	if !l.root.IsRecording() {
		return // it is not sampled
	}
	if m.Pod != nil {
		l.pod = *m.Pod
	}
	report := m.Telemetry
	if m.Runner != nil {
		l.runner, l.name = m.Runner.UUID, m.Runner.Name
		first(&l.registered, now)
	}
	if online(m) {
		first(&l.online, report.OnlineSince)
		first(&l.online, now)
	}
	if waits := m.Waits(); waits.Reason != l.waits {
		if l.waits = waits.Reason; waits.Reason != "" {
			l.root.AddEvent("waits", oteltrace.WithTimestamp(now), oteltrace.WithAttributes(
				attribute.String(waitReasonKey, waits.Reason), attribute.String(waitMessageKey, waits.Message)))
		}
	}
	if !l.started && !l.online.IsZero() {
		f.starts(l, time.Time{})
	}
	f.seeStep(l, report, now, names)
	if m.State == fleet.Draining || m.State == fleet.DrainingBusy || m.Terminating() {
		first(&l.draining, now)
	}
	first(&l.stopping, m.StoppingSince)
	if report.Activity == fleet.ActivityStopping || report.Activity == fleet.ActivityEnded {
		first(&l.stopping, report.Since)
	}
}

// first sets a milestone that is not known yet.
func first(milestone *time.Time, at time.Time) {
	if milestone.IsZero() {
		*milestone = at
	}
}

// end ends the trace of a runner whose Job is gone or has failed.
func (f *following) end(l *life, failed *fleet.Failure, now time.Time) {
	if failed != nil && failed.On.After(l.created) && failed.On.Before(now) {
		now = failed.On
	}
	f.starts(l, now)
	if l.step != nil {
		l.step.attributes = append(l.step.attributes, attribute.Bool(endUnseenKey, true))
		f.stepEnds(l, now, "")
	}
	stopping := l.stopping
	first(&stopping, now)
	if !l.draining.IsZero() {
		f.span(l, "drain", l.draining, stopping)
	}
	if l.runner != "" {
		f.span(l, "delete", stopping, now)
	}
	if failed != nil {
		l.root.SetStatus(codes.Error, failed.String())
	}
	l.root.SetAttributes(ofLife(l)...)
	l.root.End(oteltrace.WithTimestamp(now))
}

// starts exports the spans of a runner's start, once. If the Job has ended, it did so at the
// given time, and a start that was not finished ended then too.
func (f *following) starts(l *life, ended time.Time) {
	if l.started || l.incomplete {
		return
	}
	l.started = true
	stages := []struct {
		name string
		to   time.Time
	}{
		{"create pod", l.pod.CreatedOn},
		{"schedule", l.pod.ScheduledOn},
		{"start sidecar", l.pod.SidecarOn},
		{"register", l.registered},
		{"pull image", l.pod.RunnerOn}, // of the runner; the sidecar's was pulled before
		{"connect", l.online},
	}
	reached := -1
	for i, stage := range stages {
		if !stage.to.IsZero() {
			reached = i
		}
	}
	from := l.created
	for i, stage := range stages {
		switch {
		case !stage.to.IsZero():
			from = f.span(l, stage.name, from, stage.to)
		case i > reached && !ended.IsZero():
			f.span(l, stage.name, from, ended, attribute.Bool(incompleteKey, true))
			return
		}
	}
}

// span exports a span of a runner's trace, and returns its end. Kubernetes' times are in whole
// seconds, so one may seem to be before another that it follows.
func (f *following) span(l *life, name string, from, to time.Time, attributes ...attribute.KeyValue) (end time.Time) {
	if to.Before(from) {
		to = from
	}
	_, span := f.tracer.Start(l.ctx, name, oteltrace.WithTimestamp(from), oteltrace.WithAttributes(attributes...))
	span.End(oteltrace.WithTimestamp(to))
	return to
}
