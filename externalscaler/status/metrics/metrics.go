// Package metrics shows the control plane to Prometheus. Its parts increment the counters; the
// fleet and the queue are read at each scrape. It only reads.
package metrics

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"bitbucket-runner-scaler/externalscaler/status"
)

const namespace = "bitbucket_runner_scaler"

// Metrics are the counters of the control plane. Its parts increment them.
type Metrics struct {
	registrations *prometheus.CounterVec
	removals      *prometheus.CounterVec
	calls         *prometheus.HistogramVec
}

// New registers the metrics. The fleet's are gauges that are read at each scrape.
func New(registry *prometheus.Registry, s *status.Status, remaining func() map[string]int) *Metrics {
	m := &Metrics{
		registrations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "registrations_total", Help: "Registrations requested by sidecars, by outcome.",
		}, []string{"outcome"}),
		removals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "removals_total", Help: "Runners removed by the reaper, by reason.",
		}, []string{"reason"}),
		calls: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Name: "api_request_duration_seconds", Help: "Duration of calls to Bitbucket by method, route and status. Status 0 means no answer.",
			Buckets: []float64{0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10},
		}, []string{"method", "route", "status"}),
	}
	registry.MustRegister(m.registrations, m.removals, m.calls, &gauges{status: s, remaining: remaining},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Registration counts a registration's outcome.
func (m *Metrics) Registration(outcome string) { m.registrations.WithLabelValues(outcome).Inc() }

// Removal counts a removed runner.
func (m *Metrics) Removal(reason string) { m.removals.WithLabelValues(reason).Inc() }

// Call counts one call to Bitbucket.
func (m *Metrics) Call(method, route string, status int, took time.Duration) {
	m.calls.WithLabelValues(method, route, strconv.Itoa(status)).Observe(took.Seconds())
}

// gauges reads the fleet at each scrape.
type gauges struct {
	status *status.Status
	// remaining is what is left of each credentials set's hourly budget.
	remaining func() map[string]int
}

var (
	runnersDesc  = prometheus.NewDesc(namespace+"_runners", "Members of a runner group by state.", []string{"namespace", "scaledjob", "state"}, nil)
	desiredDesc  = prometheus.NewDesc(namespace+"_desired_runners", "Runners that a group should have.", []string{"namespace", "scaledjob"}, nil)
	targetDesc   = prometheus.NewDesc(namespace+"_target_jobs", "Unfinished Jobs that KEDA should keep.", []string{"namespace", "scaledjob"}, nil)
	ageDesc      = prometheus.NewDesc(namespace+"_list_age_seconds", "Age of the list of runners that a group's decisions are based on.", []string{"namespace", "scaledjob"}, nil)
	intervalDesc = prometheus.NewDesc(namespace+"_list_interval_seconds", "Time between two lists of a group's scope. It grows if the scopes of a credentials set need more lists than the hourly budget allows.", []string{"namespace", "scaledjob"}, nil)
	failuresDesc = prometheus.NewDesc(namespace+"_group_failures", "Jobs of a group in a row that failed before their runner took a step; 0 below three.", []string{"namespace", "scaledjob"}, nil)
	backOffDesc  = prometheus.NewDesc(namespace+"_group_back_off_seconds", "Time until a group whose Jobs keep failing gets another one.", []string{"namespace", "scaledjob"}, nil)
	waitingDesc  = prometheus.NewDesc(namespace+"_waiting_jobs", "Jobs that do not come to a runner, by Kubernetes' reason.", []string{"namespace", "scaledjob", "reason"}, nil)
	faultyDesc   = prometheus.NewDesc(namespace+"_group_faulty", "1 while no decision can be made for a group.", []string{"namespace", "scaledjob"}, nil)
	unreadDesc   = prometheus.NewDesc(namespace+"_unrecognized_output", "Runners whose log lines are not recognized, so that only Bitbucket's list shows whether they are busy.", []string{"namespace", "scaledjob"}, nil)
	reusedDesc   = prometheus.NewDesc(namespace+"_runners_reused_total", "Runners of ephemeral groups that took another step because no other was online.", nil, nil)
	budgetDesc   = prometheus.NewDesc(namespace+"_api_budget_remaining", "Calls to Bitbucket that remain in the budget of the rolling hour.", []string{"credentials"}, nil)
)

// Describe implements prometheus.Collector.
func (g *gauges) Describe(ch chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{runnersDesc, desiredDesc, targetDesc, ageDesc, intervalDesc, failuresDesc, backOffDesc, waitingDesc, faultyDesc, unreadDesc, reusedDesc, budgetDesc} {
		ch <- desc
	}
}

// Collect implements prometheus.Collector.
func (g *gauges) Collect(ch chan<- prometheus.Metric) {
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	for _, group := range g.status.Groups() {
		faulty := 0.0
		if group.Error != "" {
			faulty = 1
		} else {
			gauge(desiredDesc, float64(group.Desired), group.Namespace, group.Name)
			gauge(targetDesc, float64(group.Target), group.Namespace, group.Name)
		}
		gauge(faultyDesc, faulty, group.Namespace, group.Name)
		gauge(unreadDesc, float64(group.Unrecognized), group.Namespace, group.Name)
		gauge(ageDesc, group.ListAge, group.Namespace, group.Name)
		if group.ListInterval > 0 {
			gauge(intervalDesc, group.ListInterval, group.Namespace, group.Name)
		}
		failures, backOff := 0, 0.0
		if group.CrashLoop != nil {
			failures, backOff = group.CrashLoop.Failures, group.CrashLoop.Wait
		}
		gauge(failuresDesc, float64(failures), group.Namespace, group.Name)
		gauge(backOffDesc, backOff, group.Namespace, group.Name)
		for _, waiting := range group.Waiting {
			gauge(waitingDesc, float64(waiting.Jobs), group.Namespace, group.Name, waiting.Reason)
		}
		for state, count := range group.Runners {
			gauge(runnersDesc, float64(count), group.Namespace, group.Name, state)
		}
	}
	ch <- prometheus.MustNewConstMetric(reusedDesc, prometheus.CounterValue, float64(g.status.Reused()))
	for name, left := range g.remaining() {
		gauge(budgetDesc, float64(left), name)
	}
}
