// Command arithmetic answers what KEDA would create, from KEDA's own code: one JSON object a line on standard input,
// {"metric": 5, "target": 1, "max": 10, "running": 2, "pending": 1}, one on standard output for each, {"create": 3}.
//
//   - metric is the trigger's value and target the targetSize of its metric specification (> 0);
//   - max is the ScaledJob's maxReplicaCount; its minReplicaCount is 0 and its scaling strategy "default";
//   - running counts the unfinished Jobs, the pending ones included, as KEDA counts them; pending those without a
//     running pod.
//
// It exits with 1 and a message at the first line that it cannot read.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/go-logr/logr"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/metrics/pkg/apis/external_metrics"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	"github.com/kedacore/keda/v2/pkg/scalers"
	"github.com/kedacore/keda/v2/pkg/scaling/executor"
	"github.com/kedacore/keda/v2/pkg/scaling/scaledjob"
)

// metricName ties the metric's value to its specification; KEDA compares the two.
const metricName = "runners"

type question struct {
	Metric  float64 `json:"metric"`
	Target  float64 `json:"target"`
	Max     int32   `json:"max"`
	Running int64   `json:"running"`
	Pending int64   `json:"pending"`
}

type answer struct {
	Create int64 `json:"create"`
}

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "arithmetic:", err)
		os.Exit(1)
	}
}

func run(in io.Reader, out io.Writer) error {
	questions, answers := json.NewDecoder(in), json.NewEncoder(out)
	for line := 1; ; line++ {
		var asked question
		if err := questions.Decode(&asked); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("question %d: %w", line, err)
		}
		if asked.Target <= 0 {
			return fmt.Errorf("question %d: target: got %v, want a number above 0", line, asked.Target)
		}
		if err := answers.Encode(answer{Create: create(asked)}); err != nil {
			return fmt.Errorf("answer %d: %w", line, err)
		}
	}
}

// create follows a ScaledJob's poll from the metric to the number of Jobs. The steps that KEDA does not export (the
// bounds in RequestJobScale and createJobs, pkg/scaling/executor/scale_jobs.go) are repeated at the end.
func create(asked question) int64 {
	spec := autoscalingv2.MetricSpec{External: &autoscalingv2.ExternalMetricSource{
		Metric: autoscalingv2.MetricIdentifier{Name: metricName},
		Target: scalers.GetMetricTargetMili(autoscalingv2.AverageValueMetricType, asked.Target),
	}}
	value := scalers.GenerateMetricInMili(metricName, asked.Metric)
	job := &kedav1alpha1.ScaledJob{Spec: kedav1alpha1.ScaledJobSpec{
		MaxReplicaCount: &asked.Max,
		ScalingStrategy: kedav1alpha1.ScalingStrategy{Strategy: "default"},
	}}

	queueLength, maxValue, _ := scaledjob.CalculateQueueLengthAndMaxValue(
		[]external_metrics.ExternalMetricValue{value}, []autoscalingv2.MetricSpec{spec}, job.MaxReplicaCount())
	active, scaleTo, maxScale, _ := scaledjob.IsScaledJobActive(
		[]scaledjob.ScalerMetrics{{QueueLength: queueLength, MaxValue: maxValue, IsActive: asked.Metric > 0}},
		job.Spec.ScalingStrategy.MultipleScalersCalculation, job.MinReplicaCount(), job.MaxReplicaCount())
	effectiveMax, scaleTo := executor.NewScalingStrategy(logr.Discard(), job).
		GetEffectiveMaxScale(maxScale, asked.Running-job.MinReplicaCount(), asked.Pending, job.MaxReplicaCount(), scaleTo)
	if !active {
		return 0
	}
	return max(0, min(scaleTo, effectiveMax))
}
