package configtest

import (
	"fmt"
	"math/rand/v2"
)

// source returns random values.
type source struct{ *rand.Rand }

// chance is true once in n times.
func (s *source) chance(n int) bool { return s.IntN(n) == 0 }

// between returns a whole number from least to most.
func (s *source) between(least, most int) int { return least + s.IntN(most-least+1) }

// number returns a number as a YAML number or as a string. The reader accepts both.
func (s *source) number(least, most int) any {
	if n := s.between(least, most); s.chance(3) {
		return fmt.Sprint(n)
	} else {
		return n
	}
}

// field is a key with a generator of its values.
type field struct {
	key   string
	value func(*source) any
}

// one returns a generator that picks one of the values.
func one(values ...any) func(*source) any {
	return func(s *source) any { return values[s.IntN(len(values))] }
}

// some returns an object that has each field with a chance of 1 in n. A field may also
// be null, which means not given.
func (s *source) some(fields []field, n int) object {
	o := object{}
	for _, f := range fields {
		switch {
		case s.chance(n):
			o[f.key] = f.value(s)
		case s.chance(12):
			o[f.key] = nil
		}
	}
	return o
}

var durations = one("90s", "5m", "1h30m", "24h", 300, "450")

var constants = []field{
	{"default_sleep_time_runner_setup", one(5, 10)},
	{"default_sleep_time_runner_delete", one(5, "5")},
	{"runner_api_polling_interval", one(600)},
	{"runner_cool_down_period", durations},
	{"default_runner_kubernetes_namespace", one("builds", "bitbucket-runner")},
}

// common are the keys that every form has.
var common = []field{
	{"namespace", one("default", "builds", "team-a")},
	{"repository", one("app", "my-awesome-repository", "{0b1c2d3e-a40a-4776-8497-372a41771e65}")},
	{"resources", resources},
}

// rules are the parameters of every strategy.
var rules = []field{
	{"cool_down", durations},
	{"max_age", one("2h", "12h", 86400, 0)},
	{"ephemeral", one(true, false, "true")},
}

// shares are the parameters of strategies that follow the demand. All values are
// compatible with each other.
var shares = []field{
	{"scale_up_threshold", one(0.5, 0.8, "1")},
	{"scale_down_threshold", one(0.2, "0.3", 0.05)},
	{"scale_up_multiplier", one(1.5, 2, 100)},
	{"scale_down_multiplier", one(0.5, 0.25)},
}

// extensions are keys that Atlassian's tool does not know and that do not depend on
// other keys.
var extensions = []field{
	{"credentials", one("team-a", "default", "b2")},
	{"docker", one(true, true, "true", false)},
	{"docker_args", one([]any{"--mtu=1400"}, []any{"--registry-mirror", "https://mirror.example.com"})},
	{"docker_resources", resources},
	{"node_selector", one(object{"customer": "shared"}, object{"pool": "big", "disk": "1"}, object{})},
	{"tolerations", one(
		[]any{object{"key": "builds", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60}},
		[]any{object{"operator": "Exists"}, object{"key": "spot", "value": "true", "effect": "NoSchedule"}}, []any{})},
	{"affinity", affinity},
	{"priority_class", one("builds", "team-a.low")},
	{"images", func(s *source) any { return s.some(images, 2) }},
	{"image_mirror", one("mirror.example.com/proxy", "mirror:5000/", "mirror")},
	{"image_pull_policy", one("Always", "IfNotPresent", "Never")},
	{"image_pull_secrets", one([]any{"mirror"}, []any{"a", "b.c"})},
	{"entrypoint", one([]any{"/bin/runner", "--fast"}, []any{"runner"})},
	{"env", one(
		[]any{object{"name": "MAVEN_OPTS", "value": "-Xmx1g"}},
		[]any{object{"name": "A", "value": "$(SIDECAR_DIR)"}, object{"name": "TOKEN", "valueFrom": object{"secretKeyRef": object{"name": "build", "key": "token"}}}})},
	{"proxy", func(s *source) any { return s.some(proxies, 2) }},
	{"pod_template", podTemplate},
	{"scaler_address", one("scaler.control.svc:9191", "10.0.0.1:9090", "[::1]:9090")},
	{"tls", one(true, false, "false")},
	{"polling_interval", one(30, "1s", "1h", "0h1m")},
	{"grace_period", one("30m", 0, "168h", "2h10m")},
}

var images = []field{
	{"runner", one("mirror.example.com/runner:6.0.7", "runner@sha256:0000")},
	{"sidecar", one("mirror.example.com/bitbucket-runner-scaler:v1")},
	{"docker", one("docker:28-dind")},
}

var proxies = []field{
	{"http", one("http://proxy.example.com:3128")},
	{"https", one("http://proxy.example.com:3128", "socks5://10.0.0.2")},
	{"no_proxy", one("localhost,.svc", "10.0.0.0/8")},
}

// resources returns requests and limits of a container. Each may be missing.
func resources(s *source) any {
	limits := object{"memory": one("4Gi", "4096Mi", "8G")(s), "cpu": one(2, "2000m")(s)}
	requests := object{"memory": one("1Gi", "512Mi")(s), "cpu": one("500m", 0.5, 1)(s)}
	return one(object{"requests": requests, "limits": limits}, object{"requests": requests}, object{"limits": limits}, object{})(s)
}

func affinity(s *source) any {
	return object{"podAntiAffinity": object{"preferredDuringSchedulingIgnoredDuringExecution": []any{object{
		"weight": s.between(1, 100),
		"podAffinityTerm": object{
			"topologyKey":   "kubernetes.io/hostname",
			"labelSelector": object{"matchLabels": object{"app.kubernetes.io/name": "bitbucket-runner"}},
		},
	}}}}
}

// podTemplate returns a patch of fields that have no key and that the scaler does not
// depend on.
func podTemplate(s *source) any {
	return one(
		object{"metadata": object{"labels": object{"team": "builds"}, "annotations": object{"example.com/cost-centre": "42"}}},
		object{"spec": object{"dnsPolicy": "Default", "hostAliases": []any{object{"ip": "10.0.0.1", "hostnames": []any{"git.example.com"}}}}},
		object{"spec": object{"containers": []any{object{"name": "runner", "securityContext": object{"allowPrivilegeEscalation": false}}}}},
		object{"spec": object{"initContainers": []any{object{"name": "sidecar", "resources": object{"limits": object{"memory": "96Mi"}}}}}},
		object{"spec": object{"runtimeClassName": "kata", "schedulerName": "packer", "tolerations": []any{object{"key": "kata", "operator": "Exists"}}}},
	)(s)
}

// group returns the i-th group. Its name and its set of labels are unique.
func (s *source) group(i int, form Form, extended bool) object {
	g := s.some(common, 3)
	g["name"] = one(fmt.Sprintf("Runner group %d", i+1), fmt.Sprintf("group-%d", i+1), fmt.Sprintf("G%d: (builds)", i+1))(s)
	g["workspace"] = one("acme", "my_work.space", "{6321d246-a40a-4776-8497-372a41771e65}")(s)
	g["labels"] = one([]any{fmt.Sprintf("g%d", i)}, []any{"self.hosted", "gke.runner", fmt.Sprintf("g%d", i)}, []any{"1.10", fmt.Sprintf("g%d", i), "true"})(s)
	s.scaling(g, form, extended)
	if !extended {
		return g
	}
	for key, value := range s.some(extensions, 3) {
		g[key] = value
	}
	if s.chance(2) {
		s.architecture(g)
	}
	if s.chance(2) {
		s.storage(g)
	}
	return g
}

// scaling sets a group's strategy and its parameters. Three groups of at most 30
// runners do not exceed the limit of a workspace.
func (s *source) scaling(g object, form Form, extended bool) {
	key, strategies := "strategy", []string{"percentageRunnersIdle", "queuedSteps", "fixed", "manual"}
	switch {
	case form == Incumbent:
		strategies = strategies[:1]
	case form == Older && !extended, s.chance(4):
		key, strategies = "type", []string{"manual", "autoscaling"}
	}
	strategy := strategies[s.IntN(len(strategies))]
	g[key] = strategy
	parameters := object{}
	switch strategy {
	case "fixed":
		parameters["count"] = s.number(0, 30)
	case "manual":
		parameters["runners_count"] = s.number(0, 30)
	default:
		if strategy == "percentageRunnersIdle" && s.chance(3) {
			delete(g, key) // the default
		}
		parameters = s.some(shares, 2)
		parameters["min"], parameters["max"] = s.number(1, 5), s.number(5, 30)
		if strategy == "queuedSteps" {
			if g["repository"] == nil && s.chance(2) {
				g["repositories"] = []any{"app", "web"}
			}
			if s.chance(2) {
				parameters["look_ahead"] = "30s"
			}
		}
		if extended && s.chance(2) {
			parameters["spare"] = s.number(0, 5)
		}
		if extended && s.chance(3) {
			g["schedules"] = []any{object{
				"start": "0 7 * * 1-5", "end": "0 19 * * 1-5", "timezone": "Europe/Berlin",
				"min": s.number(1, 5), "max": s.number(5, 30), "spare": s.number(0, 5),
			}}
		}
	}
	if extended {
		for key, value := range s.some(rules, 3) {
			parameters[key] = value
		}
	}
	g["parameters"] = parameters
}

func (s *source) architecture(g object) {
	systems := []object{
		{"os": "linux"}, {"os": "linux.arm64"}, {"architecture": "amd64"}, {"architecture": "arm64"},
		{"os": "linux.arm64", "architecture": "arm64"}, {"os": "linux.shell", "docker": false}, {"os": "linux.shell", "architecture": "arm64", "docker": nil, "node_selector": nil},
	}
	for key, value := range systems[s.IntN(len(systems))] {
		g[key] = value
	}
}

// storage adds volumes and their mounts.
func (s *source) storage(g object) {
	g["volumes"] = []any{
		object{"name": "cache", "persistentVolumeClaim": object{"claimName": "builds"}},
		object{"name": "graph", "emptyDir": object{"sizeLimit": "50Gi"}},
	}
	if s.chance(2) {
		g["volume_mounts"] = []any{object{"name": "cache", "mountPath": "/cache"}, object{"name": "graph", "mountPath": "/graph", "readOnly": true}}
	}
	if s.chance(2) {
		g["docker_volume_mounts"] = []any{object{"name": "graph", "mountPath": "/var/lib/docker/overlay2"}}
	}
}
