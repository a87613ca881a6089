package controlplane

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
	"k8s.io/utils/clock"

	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/pause"
	"bitbucket-runner-scaler/externalscaler/reaper"
)

// stepNotServed is the reason of the Event about a step that no runner serves.
const stepNotServed = "StepNotServed"

const (
	// unservedInterval is the time between two looks.
	unservedInterval = 5 * time.Second
	// unservedAfter is how long a step must have waited: a group that serves it may have been
	// applied just now.
	unservedAfter = 15 * time.Second
	// mostUnserved bounds the steps that are remembered, and so the Events.
	mostUnserved = 1000
)

// unservedReport reports each step that waits and that no runner serves: once in the log, and in
// an Event on the ScaledJob whose labels come closest.
type unservedReport struct {
	steps  func() []fleet.UnservedStep
	events reaper.Events // nil without a cluster
	log    *zap.Logger
}

func (r unservedReport) run(ctx context.Context) {
	reported := map[string]struct{}{}
	for pause.For(ctx, clock.RealClock{}, unservedInterval, nil) {
		now := map[string]struct{}{}
		for _, step := range r.steps() {
			// One report serves all steps of a pipeline with the same labels.
			key := fmt.Sprintf("%s %s", step.Pipeline, strings.Join(step.Labels, " "))
			if _, again := now[key]; again || len(now) >= mostUnserved || time.Since(step.Since) < unservedAfter {
				continue
			}
			now[key] = struct{}{}
			if _, known := reported[key]; !known {
				r.report(step)
			}
		}
		reported = now
	}
}

func (r unservedReport) report(step fleet.UnservedStep) {
	text := fmt.Sprintf("step %q of %s build %d asks for a runner with the labels %s, and no runner group serves it", step.Name, step.In, step.Build, strings.Join(step.Labels, ", "))
	r.log.Warn("a step asks for a runner that no group has", zap.String("repository", step.In), zap.Int("build", step.Build), zap.String("step", step.Name),
		zap.Strings("labels", step.Labels), zap.Stringer("nearest", step.Nearest), zap.Strings("missing", step.Hint.Missing))
	if step.Nearest == (fleet.GroupKey{}) || r.events == nil {
		return
	}
	lacks := make([]string, 0, len(step.Hint.Missing))
	for _, label := range slices.Sorted(slices.Values(step.Hint.Missing)) {
		if meant := step.Hint.Meant[label]; meant != "" {
			label = fmt.Sprintf("%s (this group has %s)", label, meant)
		}
		lacks = append(lacks, label)
	}
	text += "; this group comes closest, and lacks " + strings.Join(lacks, ", ")
	r.events.Event(step.Nearest, step.UID, reaper.Event{Reason: stepNotServed, Message: text, Warning: true})
}
