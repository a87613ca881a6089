package trace

import (
	"strings"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/policy"
)

// The attributes for which OpenTelemetry has no convention.
const (
	groupKey       = "bitbucket.runner_group.name" // namespace/name
	labelsKey      = "bitbucket.runner.labels"
	workspaceKey   = "bitbucket.workspace" // as the trigger has it
	stepsKey       = "bitbucket.runner.steps"
	incompleteKey  = "bitbucket.trace.incomplete"
	buildKey       = "bitbucket.build.number"
	repositoryKey  = "bitbucket.repository.uuid"
	resultKey      = "bitbucket.step.result" // in the words of the runner's log
	beginUnseenKey = "bitbucket.step.begin_unseen"
	endUnseenKey   = "bitbucket.step.end_unseen"
	reasonKey      = "bitbucket.decision.reason"
	noteKey        = "bitbucket.decision.note"
	desiredKey     = "bitbucket.decision.desired"
	effectiveKey   = "bitbucket.decision.effective"
	targetKey      = "bitbucket.decision.target"
	waitReasonKey  = "bitbucket.wait.reason" // in Kubernetes' words
	waitMessageKey = "bitbucket.wait.message"
)

// decided are the attributes of a decision.
func decided(d policy.Decision) []attribute.KeyValue {
	return []attribute.KeyValue{
		attribute.String(reasonKey, string(d.Reason)), attribute.String(noteKey, d.Note), attribute.Int(desiredKey, d.Desired),
		attribute.Int(effectiveKey, d.Effective), attribute.Int(targetKey, d.Target),
	}
}

// ofJobs are the attributes of a runner that are known from its Job and its group.
func ofJobs(group *fleet.GroupSnapshot, job *fleet.Job) []attribute.KeyValue {
	all := []attribute.KeyValue{
		attribute.String(groupKey, group.String()), attribute.StringSlice(labelsKey, group.Spec.Labels),
		attribute.String(workspaceKey, group.Spec.Workspace), semconv.VCSProviderNameBitbucket,
		semconv.K8SNamespaceName(job.Namespace), semconv.K8SJobName(job.Name), semconv.K8SJobUID(job.UID),
	}
	if group.Spec.Repository != "" {
		all = append(all, semconv.VCSRepositoryName(group.Spec.Repository))
	}
	return all
}

// ofLife are the attributes of a runner that become known later.
func ofLife(l *life) []attribute.KeyValue {
	all := []attribute.KeyValue{attribute.Int(stepsKey, l.steps)}
	if l.pod.UID != "" {
		all = append(all, semconv.K8SPodName(l.pod.Name), semconv.K8SPodUID(l.pod.UID))
	}
	if l.pod.Node != "" {
		all = append(all, semconv.K8SNodeName(l.pod.Node))
	}
	if l.runner != "" {
		all = append(all, semconv.CICDWorkerID(l.runner), semconv.CICDWorkerName(l.name))
	}
	if l.incomplete {
		all = append(all, attribute.Bool(incompleteKey, true))
	}
	return all
}

// results are the convention's words for results in the log of a runner.
var results = map[string]attribute.KeyValue{
	"PASSED":  semconv.CICDPipelineTaskRunResultSuccess,
	"FAILED":  semconv.CICDPipelineTaskRunResultFailure,
	"ERROR":   semconv.CICDPipelineTaskRunResultError,
	"STOPPED": semconv.CICDPipelineTaskRunResultCancellation,
	"TIMEOUT": semconv.CICDPipelineTaskRunResultTimeout,
}

// ofResult are the attributes of how a step ended.
func ofResult(result string) []attribute.KeyValue {
	if result == "" {
		return nil
	}
	all := []attribute.KeyValue{attribute.String(resultKey, result)}
	if word, ok := results[strings.ToUpper(result)]; ok {
		all = append(all, word)
	}
	return all
}
