package webhooks

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"time"

	"bitbucket-runner-scaler/bitbucket/emulator/pipelines"
)

// OTLP in JSON.
type (
	spanPayload struct {
		ResourceSpans []resourceSpans `json:"resourceSpans"`
	}
	resourceSpans struct {
		Resource   attributed   `json:"resource"`
		ScopeSpans []scopeSpans `json:"scopeSpans"`
	}
	attributed struct {
		Attributes []attribute `json:"attributes"`
	}
	scopeSpans struct {
		Scope struct {
			Name string `json:"name"`
		} `json:"scope"`
		Spans []span `json:"spans"`
	}
	span struct {
		TraceID    string      `json:"traceId"`
		SpanID     string      `json:"spanId"`
		Name       string      `json:"name"`
		Kind       int         `json:"kind"`
		Start      string      `json:"startTimeUnixNano"`
		End        string      `json:"endTimeUnixNano"`
		Attributes []attribute `json:"attributes"`
	}
	attribute struct {
		Key   string `json:"key"`
		Value any    `json:"value"`
	}
	stringValue struct {
		Value string `json:"stringValue"`
	}
	intValue struct {
		Value int `json:"intValue"`
	}
)

func text(key, value string) attribute { return attribute{key, stringValue{value}} }

// RunSpan returns the payload of pipeline:span_created for a pipeline that has ended.
func RunSpan(p *pipelines.Pipeline) any {
	number := text("pipeline_run.run_number", "1")
	if p.Number%2 == 0 { // both forms were seen at Bitbucket
		number.Value = intValue{1}
	}
	return spans(newSpan(p, "bbc.pipeline_run", p.UUID, p.CreatedOn, p.CompletedOn, number,
		text("pipeline_run.uuid", p.UUID), text("pipeline.state.name", "COMPLETED"),
		text("pipeline.state.result.name", spanResult(p.State())), text("pipeline.target.ref_name", p.Target.RefName)))
}

// StepSpan returns the payload of pipeline:span_created for a step that has ended, with the
// spans of its container and its commands.
func StepSpan(st *pipelines.Step) any {
	p := st.Pipeline
	start := st.StartedOn
	if start.IsZero() {
		start = st.CompletedOn
	}
	result := spanResult(st.State(pipelines.StagesNone))
	name := "bbc.pipeline_step"
	if p.Number%2 == 0 { // both names were seen at Bitbucket
		name = "bbc.step"
	}
	all := []span{newSpan(p, name, st.UUID, start, st.CompletedOn, text("step.uuid", st.UUID), text("step.step_name", st.Name),
		text("step.state.name", "COMPLETED"), text("step.state.result.name", result))}
	if !st.StartedOn.IsZero() {
		all = append(all, newSpan(p, "bbc.pipeline_container", st.UUID+"container", start, st.CompletedOn,
			text("step.uuid", st.UUID), text("container.name", "build")))
		for i, line := range st.Script {
			all = append(all, newSpan(p, "bbc.command", st.UUID+strconv.Itoa(i), start, st.CompletedOn,
				text("step.uuid", st.UUID), text("command.command", line)))
		}
	}
	return spans(all...)
}

func newSpan(p *pipelines.Pipeline, name, of string, start, end time.Time, more ...attribute) span {
	n := p.Repository.Names()
	return span{
		TraceID: digits(p.UUID, 16), SpanID: digits(name+of, 8), Name: name, Kind: 1,
		Start: strconv.FormatInt(start.UnixNano(), 10), End: strconv.FormatInt(end.UnixNano(), 10),
		Attributes: append([]attribute{
			text("pipeline.account.uuid", n.WorkspaceUUID), text("pipeline.repository.uuid", n.UUID), text("pipeline.uuid", p.UUID),
		}, more...),
	}
}

func spans(all ...span) any {
	scope := scopeSpans{Spans: all}
	scope.Scope.Name = "bitbucket-pipelines"
	return spanPayload{[]resourceSpans{{
		Resource: attributed{[]attribute{text("service.name", "bitbucket-pipelines")}}, ScopeSpans: []scopeSpans{scope},
	}}}
}

// digits returns an identifier of n bytes.
func digits(of string, n int) string {
	sum := sha256.Sum256([]byte(of))
	return hex.EncodeToString(sum[:n])
}

// spanResult returns a result as spans name it.
func spanResult(state pipelines.State) string {
	switch {
	case state.Result == nil:
		return ""
	case state.Result.Name == "SUCCESSFUL":
		return "COMPLETE"
	}
	return state.Result.Name
}
