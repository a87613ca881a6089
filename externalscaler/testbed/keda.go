package testbed

import (
	"context"
	"math"
	"strconv"
	"sync"
	"time"

	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"bitbucket-runner-scaler/externalscaler/fleet"
)

// Arithmetic returns how many Jobs KEDA creates in one poll for a ScaledJob with the
// scalingStrategy `default`. metric and target are the scaler's answers, running is the
// number of the ScaledJob's unfinished Jobs, and maximum is its maxReplicaCount. It
// follows KEDA's code (pkg/scaling/scaledjob/metrics.go,
// pkg/scaling/executor/scale_jobs.go).
func Arithmetic(metric, target float64, maximum, running int) int {
	if metric <= 0 || target <= 0 || math.IsNaN(metric) {
		return 0
	}
	// KEDA uses Kubernetes quantities in thousandths.
	metric, target = math.Round(metric*1000)/1000, math.Round(target*1000)/1000
	missing := math.Ceil(math.Min(metric/target, float64(maximum))) - float64(running)
	return int(math.Max(0, math.Min(math.Ceil(metric), missing)))
}

// keda polls the scaler for each ScaledJob over real gRPC, as KEDA does.
type keda struct {
	client   pb.ExternalScalerClient
	cluster  *Cluster
	interval time.Duration
	create   func(owner fleet.ScaledJob)
	log      *zap.Logger

	loops sync.WaitGroup
}

func newKEDA(conn grpc.ClientConnInterface, cluster *Cluster, interval time.Duration, create func(fleet.ScaledJob), log *zap.Logger) *keda {
	return &keda{client: pb.NewExternalScalerClient(conn), cluster: cluster, interval: interval, create: create, log: log}
}

// watch polls for one ScaledJob until ctx ends.
func (k *keda) watch(ctx context.Context, scaledJob fleet.ScaledJob) {
	k.loops.Go(func() {
		ticker := time.NewTicker(k.interval)
		defer ticker.Stop()
		for {
			k.poll(ctx, scaledJob)
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
		}
	})
}

// poll makes KEDA's three calls and creates the missing Jobs. After an error it creates
// none, as KEDA does.
func (k *keda) poll(ctx context.Context, scaledJob fleet.ScaledJob) {
	ref := &pb.ScaledObjectRef{Namespace: scaledJob.Namespace, Name: scaledJob.Name, ScalerMetadata: scaledJob.Metadata}
	spec, err := k.client.GetMetricSpec(ctx, ref)
	if err != nil || len(spec.GetMetricSpecs()) != 1 {
		k.failed(ctx, scaledJob, err)
		return
	}
	answer, err := k.client.GetMetrics(ctx, &pb.GetMetricsRequest{ScaledObjectRef: ref, MetricName: spec.GetMetricSpecs()[0].GetMetricName()})
	if err != nil {
		k.failed(ctx, scaledJob, err)
		return
	}
	active, err := k.client.IsActive(ctx, ref)
	if err != nil || !active.GetResult() {
		k.failed(ctx, scaledJob, err)
		return
	}
	var metric float64
	for _, value := range answer.GetMetricValues() {
		metric += value.GetMetricValueFloat()
	}
	maximum, err := strconv.Atoi(scaledJob.Metadata["max"]) // maxReplicaCount equals the trigger's max
	if err != nil {
		maximum = 100
	}
	for range Arithmetic(metric, spec.GetMetricSpecs()[0].GetTargetSizeFloat(), maximum, len(k.cluster.JobsOf(scaledJob.UID))) {
		k.create(scaledJob)
	}
}

func (k *keda) failed(ctx context.Context, scaledJob fleet.ScaledJob, err error) {
	if err != nil && ctx.Err() == nil {
		k.log.Info("KEDAScalerFailed", zap.Stringer("group", scaledJob.GroupKey), zap.Error(err))
	}
}
