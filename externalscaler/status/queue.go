package status

import (
	"time"

	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/queue"
)

// Queue is what waits for the runners of a group.
type Queue struct {
	// Queued are the steps that wait, and Predicted those that will within the group's
	// look-ahead, less the runners that are free by then.
	Queued    int `json:"queued"`
	Predicted int `json:"predicted"`
	// Unknown says why not all of it can be seen.
	Unknown string `json:"unknown,omitempty"`
	// Steps are the steps, the first ones of many.
	Steps []Step `json:"steps,omitempty"`
}

// Step is a step that waits for a runner, or soon will.
type Step struct {
	Repository string   `json:"repository"`
	Build      int      `json:"build"`
	Name       string   `json:"name"`
	UUID       string   `json:"uuid"`
	Labels     []string `json:"labels"`
	// Since is when it was found to wait. Expected is when it will, for a predicted one.
	Since    *time.Time `json:"waitsSince,omitempty"`
	Expected *time.Time `json:"expectedOn,omitempty"`
}

// mostSteps bounds the steps that are shown of one group.
const mostSteps = 100

func queueOf(g *fleet.GroupSnapshot) *Queue {
	o := g.Observation
	shown := &Queue{Queued: o.Queued, Predicted: o.Predicted, Unknown: o.QueueUnknown}
	for _, step := range g.Waiting[:min(len(g.Waiting), mostSteps)] {
		shown.Steps = append(shown.Steps, stepOf(step))
	}
	return shown
}

func stepOf(step queue.Step) Step {
	shown := Step{Repository: step.In, Build: step.Build, Name: step.Name, UUID: step.Step, Labels: step.Labels}
	if !step.Since.IsZero() {
		shown.Since = &step.Since
	}
	if !step.Expected.IsZero() {
		shown.Expected = &step.Expected
	}
	return shown
}
