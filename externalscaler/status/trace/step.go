package trace

import (
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	oteltrace "go.opentelemetry.io/otel/trace"

	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/queue"
)

// step is a step that a runner runs.
type step struct {
	id    queue.StepID
	begun time.Time
	// number counts the steps that the runner has begun.
	number     uint32
	name       string // empty if it is not known
	attributes []attribute.KeyValue
}

// names are the steps that the queue knows, which are read only if one is asked for.
type names struct {
	queue Queue
	steps map[string]queue.LiveStep // by UUID
}

func (n *names) of(uuid string) (queue.LiveStep, bool) {
	if n.steps == nil {
		n.steps = map[string]queue.LiveStep{}
		live, _ := n.queue.Look()
		for _, pipeline := range live {
			for _, s := range pipeline.Steps {
				n.steps[s.StepID.Step] = s
			}
		}
	}
	s, ok := n.steps[uuid]
	return s, ok
}

// seeStep takes what a runner reports of its steps.
func (f *following) seeStep(l *life, report fleet.Telemetry, now time.Time, names *names) {
	since := report.Since
	first(&since, now)
	running := ""
	if report.Activity == fleet.ActivityBusy {
		running = report.StepUUID
	}
	ended, result := report.Run.Ended.Step, report.Run.Result
	if s := l.step; s != nil && (running != s.id.Step || report.StepsBegun > s.number) {
		if ended != s.id.Step {
			result = ""
		}
		f.stepEnds(l, since, result)
		l.last = s.id.Step
	}
	if ended != "" && ended != l.last && ended != running { // it was shorter than the time between two snapshots
		l.step = f.newStep(report.Run.Ended, since, report.StepsBegun, names)
		l.step.attributes = append(l.step.attributes, attribute.Bool(beginUnseenKey, true))
		f.stepEnds(l, since, report.Run.Result)
	}
	if ended != "" {
		l.last = ended
	}
	if running == "" || l.step != nil {
		return
	}
	id := report.Run.Running
	if id.Step != running { // the sidecar reports only the UUID
		id = queue.StepID{Step: running}
	}
	l.step = f.newStep(id, since, report.StepsBegun, names)
	if report.OnlineSince.Equal(report.Since) { // a runner is idle first, so an earlier report is missing
		l.step.attributes = append(l.step.attributes, attribute.Bool(beginUnseenKey, true))
	}
}

// newStep returns a step with what is known of it.
func (f *following) newStep(id queue.StepID, begun time.Time, number uint32, names *names) *step {
	s := &step{id: id, begun: begun, number: number}
	s.attributes = []attribute.KeyValue{semconv.CICDPipelineTaskRunID(id.Step)}
	if id.Pipeline != "" {
		s.attributes = append(s.attributes, semconv.CICDPipelineRunID(id.Pipeline), attribute.String(repositoryKey, id.Repository))
	}
	known, ok := names.of(id.Step)
	if !ok {
		return s
	}
	if id.Pipeline == "" {
		s.attributes = append(s.attributes, semconv.CICDPipelineRunID(known.Pipeline), attribute.String(repositoryKey, known.Repository))
	}
	s.name = known.Name
	s.attributes = append(s.attributes, semconv.CICDPipelineTaskName(known.Name), semconv.VCSRepositoryName(known.In), attribute.Int(buildKey, known.Build))
	return s
}

// stepEnds exports the span of the step that a runner has run.
func (f *following) stepEnds(l *life, at time.Time, result string) {
	s := l.step
	l.step, l.last = nil, s.id.Step
	l.steps++
	if at.Before(s.begun) {
		at = s.begun
	}
	name := "step"
	if s.name != "" {
		name += " " + s.name
	}
	_, span := f.tracer.Start(l.ctx, name, oteltrace.WithTimestamp(s.begun), oteltrace.WithAttributes(s.attributes...))
	outcome := ofResult(result)
	span.SetAttributes(append(outcome, semconv.CICDWorkerID(l.runner), semconv.CICDWorkerName(l.name))...)
	if result != "" && results[result] != semconv.CICDPipelineTaskRunResultSuccess {
		span.SetStatus(codes.Error, result)
	}
	span.End(oteltrace.WithTimestamp(at))
}
