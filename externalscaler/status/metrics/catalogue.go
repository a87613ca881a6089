package metrics

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

const namespace = "bitbucket_runner_scaler"

// Metric is the definition of one metric.
type Metric struct {
	// Name is the full name.
	Name string
	// Type is gauge, counter or histogram.
	Type string
	// Unit is what its values count.
	Unit   string
	Labels []string
	// Help is what it means.
	Help string
	// From says from when on it means something.
	From string

	buckets []float64
	desc    *prometheus.Desc
}

// From when on a metric is shown and means something.
const (
	fromStart   = "start"
	fromLead    = "lead"
	fromGroup   = "group"
	fromList    = "list"
	fromQueue   = "queue"
	fromWebhook = "webhooks"
)

var (
	group       = []string{"namespace", "scaledjob"}
	scopeLabels = []string{"credentials", "scope"}
	credentials = []string{"credentials"}
)

func with(labels []string, more ...string) []string { return slices.Concat(labels, more) }

func define(kind, name, unit, from, help string, labels []string) *Metric {
	name = namespace + "_" + name
	return &Metric{Name: name, Type: kind, Unit: unit, Labels: labels, Help: help, From: from, desc: prometheus.NewDesc(name, help, labels, nil)}
}

func gauge(name, unit, from, help string, labels []string) *Metric {
	return define("gauge", name, unit, from, help, labels)
}

func counter(name, unit, from, help string, labels []string) *Metric {
	return define("counter", name, unit, from, help, labels)
}

func histogram(name, unit, from, help string, labels []string, buckets ...float64) *Metric {
	m := define("histogram", name, unit, from, help, labels)
	m.buckets = buckets
	return m
}

func (m *Metric) newCounters() *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: m.Name, Help: m.Help}, m.Labels)
}

func (m *Metric) newHistograms() *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: m.Name, Help: m.Help, Buckets: m.buckets}, m.Labels)
}

// What a group has and should have.
var (
	desired   = gauge("desired_runners", "runners", fromList, "Runners that the rules ask for now.", group)
	effective = gauge("effective_runners", "runners", fromList, "Runners that the group should have: the highest desired number within the cool-down.", group)
	target    = gauge("target_jobs", "Jobs", fromList, "Unfinished Jobs that KEDA should keep.", group)
	fewest    = gauge("min_runners", "runners", fromGroup, "Fewest runners of the group. With the strategy fixed it is count.", group)
	most      = gauge("max_runners", "runners", fromGroup, "Most runners of the group. With the strategy fixed it is count.", group)
	members   = gauge("runners", "Jobs", fromGroup, "Unfinished Jobs of the group by the state of their runners.", with(group, "state"))
	online    = gauge("online_runners", "runners", fromGroup, "Runners that are online: idle, busy, unknown, draining with a step, or replaced soon.", group)
	waiting   = gauge("waiting_jobs", "Jobs", fromGroup, "Jobs that do not come to a runner, by Kubernetes' reason. There is no series without such a Job.", with(group, "reason"))
	unread    = gauge("unrecognized_output", "runners", fromGroup, "Runners whose log lines are not recognized, so that only Bitbucket's list shows whether they are busy.", group)
	faulty    = gauge("group_faulty", "1 or 0", fromGroup, "1 while no decision can be made for the group: its trigger is invalid, or there is no current list.", group)
	failures  = gauge("group_failures", "Jobs", fromGroup, "Jobs in a row that failed before their runner took a step. 0 below three.", group)
	backOff   = gauge("group_back_off_seconds", "seconds", fromGroup, "Time until a group whose Jobs keep failing gets another one.", group)
	decisions = counter("decisions_total", "decisions", fromGroup, "Decisions that changed something, by the reason of the new one.", with(group, "reason"))
	atMax     = counter("at_max_seconds_total", "seconds", fromGroup, "Time in which the group should have had its most runners. Always 0 with the strategy fixed.", group)
	info      = gauge("group_info", "1", fromGroup, "Always 1. It joins a group with its scope, credentials set and strategy.", with(group, "credentials", "scope", "strategy"))
)

// How long steps and runners of a group take.
var (
	waits = histogram("step_wait_seconds", "seconds", fromQueue, "Time from when a step was first seen to wait until its runner reported it. "+
		"A step that was taken before it was seen to wait is not counted.", group, 1, 5, 15, 30, 60, 120, 300, 900, 3600)
	starts = histogram("runner_start_seconds", "seconds", fromGroup, "Time from the creation of a Job until its runner was online.", group, 5, 10, 20, 30, 60, 120, 300, 600)
	steps  = histogram("step_duration_seconds", "seconds", fromGroup, "Time that a runner reported a step.", group, 10, 30, 60, 180, 600, 1800, 3600, 7200)
	lives  = histogram("runner_lifetime_seconds", "seconds", fromGroup, "Time from the registration of a runner until its sidecar deregistered it.", group, 60, 300, 1800, 7200, 28800, 86400)
	took   = histogram("runner_steps", "steps", fromGroup, "Steps that a runner began in its life.", group, 0, 1, 5, 20)
)

// The queue.
var (
	queued      = gauge("queued_steps", "steps", fromQueue, "Steps that wait for a runner of the group.", group)
	predicted   = gauge("predicted_steps", "steps", fromQueue, "Steps that will wait within the group's look-ahead, less the runners that are free by then.", group)
	unseen      = gauge("queue_unknown", "1 or 0", fromQueue, "1 while not all of the group's queue can be seen.", group)
	unserved    = gauge("unserved_steps", "steps", fromLead, "Steps that ask for a runner, and that no known runner serves.", nil)
	hints       = counter("hints_total", "hints", fromLead, "Hints of webhooks: taken, or dropped because they name no repository of a group or too many wait.", []string{"outcome"})
	predictions = counter("predictions_total", "steps", fromLead, "Steps that counted as waiting from a runner's report: contradicted if Bitbucket then showed otherwise, else not_contradicted.", []string{"outcome"})
)

// Scopes, and the calls to Bitbucket.
var (
	registered = gauge("scope_registered_runners", "runners", fromList, "Runners that are registered in the scope, whoever registered them.", scopeLabels)
	room       = gauge("scope_room", "runners", fromList, "Runners that can still be registered in the scope.", scopeLabels)
	age        = gauge("list_age_seconds", "seconds", fromLead, "Age of the list of runners that decisions are based on. +Inf before the first list.", scopeLabels)
	interval   = gauge("list_interval_seconds", "seconds", fromLead, "Time between two lists. It grows if the scopes of a credentials set need more lists than the hourly budget allows.", scopeLabels)

	calls      = counter("api_requests_total", "calls", fromStart, "Calls to Bitbucket by method, route and status code. Code 0 means no answer. There is no series before the first such call.", with(credentials, "method", "route", "code"))
	latency    = histogram("api_request_duration_seconds", "seconds", fromStart, "Duration of calls to Bitbucket. There is no series before the first such call.", []string{"method", "route"}, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
	budgetLeft = gauge("api_budget_remaining", "calls", fromLead, "Calls to Bitbucket that remain in the budget of the rolling hour.", credentials)
	budget     = gauge("api_budget", "calls", fromLead, "Calls to Bitbucket that are allowed per hour.", credentials)
	stretch    = gauge("list_stretch_factor", "factor", fromLead, "Factor by which the intervals of the credentials set's lists are longer than configured, for the hourly budget.", credentials)
)

// Webhooks.
var (
	deliveries   = counter("webhook_deliveries_total", "deliveries", fromWebhook, "Webhook deliveries by event and outcome.", []string{"event", "outcome"})
	deliveryTook = histogram("webhook_delivery_duration_seconds", "seconds", fromWebhook, "Time until a webhook delivery was answered.", nil, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1, 5, 10)
	lastDelivery = gauge("webhook_last_delivery_timestamp_seconds", "seconds since 1970", fromWebhook, "When the last correctly signed webhook delivery of a credentials set arrived. 0 if there was none.", credentials)
)

// Registrar and reaper.
var (
	registrations = counter("registrations_total", "calls", fromStart, "Registrations that sidecars asked for, by outcome.", []string{"outcome"})
	removals      = counter("removals_total", "runners", fromStart, "Runners and Jobs that the reaper ended, by reason.", []string{"reason"})
	orphans       = gauge("orphaned_runners", "runners", fromLead, "Runners of this installation that have no pod. The reaper removes them after the grace.", nil)
	reused        = counter("runners_reused_total", "steps", fromLead, "Steps that runners of ephemeral groups took after their first one, because no other runner was online.", nil)
	sidecars      = gauge("attached_sidecars", "sidecars", fromStart, "Sidecars whose stream is open.", nil)
)

// The process.
var (
	rebuilt     = histogram("snapshot_build_seconds", "seconds", fromStart, "Time to build the snapshot of all groups from which KEDA's calls are answered. It is built at each change, and each second.", nil, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5)
	leads       = gauge("leader", "1 or 0", fromStart, "1 while this process leads, 0 while it is a standby.", nil)
	buildInfo   = gauge("build_info", "1", fromStart, "Always 1, with the version of this process.", []string{"version", "goversion"})
	certificate = gauge("certificate_expiry_timestamp_seconds", "seconds since 1970", fromStart, "When the certificate of the gRPC server expires. 0 if it has none. There is no series with --tls off.", nil)
)

// The gRPC server's, which a library defines.
var (
	call       = []string{"grpc_type", "grpc_service", "grpc_method"}
	grpcCounts = []*Metric{
		foreign("grpc_server_started_total", "counter", "calls", "Calls that the gRPC server has begun to answer. GetMetrics is KEDA's.", call),
		foreign("grpc_server_handled_total", "counter", "calls", "Calls that the gRPC server has answered, by code. A standby answers Unavailable.", with(call, "grpc_code")),
		foreign("grpc_server_handling_seconds", "histogram", "seconds", "Time until a call was answered, or until a stream ended.", call),
		foreign("grpc_server_msg_received_total", "counter", "messages", "Messages of callers.", call),
		foreign("grpc_server_msg_sent_total", "counter", "messages", "Messages to callers.", call),
	}
)

// foreign is a metric of a library.
func foreign(name, kind, unit, help string, labels []string) *Metric {
	return &Metric{Name: name, Type: kind, Unit: unit, Labels: labels, Help: help, From: fromStart}
}

// Section is a part of the catalogue.
type Section struct {
	Title   string
	Metrics []*Metric
}

// Catalogue returns all metrics but those of the Go runtime and of the operating system's process.
func Catalogue() []Section {
	return []Section{
		{"Groups", []*Metric{desired, effective, target, fewest, most, members, online, waiting, unread, faulty, failures, backOff, decisions, atMax, info}},
		{"Steps and runners", []*Metric{waits, starts, steps, lives, took}},
		{"The queue", []*Metric{queued, predicted, unseen, unserved, hints, predictions}},
		{"Scopes and Bitbucket", []*Metric{registered, room, age, interval, calls, latency, budgetLeft, budget, stretch}},
		{"Webhooks", []*Metric{deliveries, deliveryTook, lastDelivery}},
		{"Registrar and reaper", []*Metric{registrations, removals, orphans, reused, sidecars}},
		{"The gRPC server", grpcCounts},
		{"The process", []*Metric{leads, rebuilt, buildInfo, certificate}},
	}
}
