package configtest

import "strings"

// mutations spoil a value, or the key itself.
var mutations = []mutation{
	unknown("", "label"),
	unknown("", "replicas"),
	unknown("parameters", "minimum"),
	unknown("resources", "request"),
	unknown("docker_resources", "limit"),
	unknown("images", "dind"),
	unknown("proxy", "ftp"),
	{Fault: Fault{Kind: "key given twice"}, touches: []string{"node_selector", "nodeSelector"}, apply: func(g object) {
		g["node_selector"], g["nodeSelector"] = object{"a": "b"}, object{"a": "b"}
	}},

	missing("name"), missing("workspace"), missing("labels"),
	set("missing key", "name", nil),
	set("missing key", "labels", []any{}).as("", ""),
	{Fault: Fault{Kind: "missing key", Path: "parameters.count"}, touches: []string{"parameters", "strategy"}, when: counted,
		apply: func(g object) { g["parameters"] = object{} }},

	set("wrong type", "name", []any{"a"}),
	set("wrong type", "workspace", object{"6321d246-a40a-4776-8497-372a41771e65": nil}),
	set("wrong type", "namespace", []any{"builds"}),
	set("wrong type", "repository", object{"a": "b"}).with("repositories", nil),
	set("wrong type", "labels", "x"),
	set("wrong type", "labels", []any{"x", []any{"y"}}).as("[1]", "a list"),
	set("wrong type", "strategy", []any{"fixed"}, demanded).with("type", nil),
	set("wrong type", "parameters", []any{1}),
	set("wrong type", "parameters.max_age", []any{1}),
	set("wrong type", "resources", "much"),
	set("wrong type", "resources.limits", []any{"2Gi"}),
	set("wrong type", "docker_resources.requests.cpu", object{"cpu": 1}),
	set("wrong type", "docker", "perhaps"),
	set("wrong type", "tls", "on"),
	set("wrong type", "node_selector", []any{"a"}),
	set("wrong type", "images", "runner:1"),
	set("wrong type", "proxy", "http://proxy:3128"),
	set("wrong type", "entrypoint", "/bin/runner"),
	set("wrong type", "polling_interval", []any{5}),
	set("wrong type", "image_pull_secrets", "mirror"),
	set("wrong type", "repositories", "app"),

	set("empty value", "name", ""),
	set("empty value", "entrypoint", []any{}).as("", ""),

	set("bad name", "name", "---"),
	set("bad name", "name", strings.Repeat("n", 58)),
	set("bad name", "namespace", "Team_A"),
	set("bad name", "namespace", strings.Repeat("n", 64)),
	set("bad name", "workspace", "../acme"),
	set("bad name", "repository", "a/b").with("repositories", nil),
	set("bad name", "credentials", "Team A"),
	set("bad name", "image_pull_secrets", []any{"ok", "C_D"}).as("[1]", "C_D"),
	set("bad name", "priority_class", "A_B"),
	set("bad name", "node_selector", object{"a b": "c"}).as("", "a b: c"),

	set("reserved namespace", "namespace", "bitbucket-runner-scaler"),
	set("reserved namespace", "namespace", "kube-system"),

	set("bad label", "labels", []any{"ok", "Upper"}).as("", "Upper"),
	set("bad label", "labels", []any{"linux"}).as("", "linux"),
	set("bad label", "labels", []any{"keda.k8s"}).as("", "keda.k8s"),
	set("bad label", "labels", []any{strings.Repeat("l", 51)}).as("", strings.Repeat("l", 51)),
	set("bad label", "labels", []any{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"}).as("", "a,b,c,d,e,f,g,h,i,j"),
	set("bad label", "labels", []any{"a", "x,y"}).as("[1]", "x,y"),

	set("bad quantity", "resources.requests.memory", "lots"),
	set("bad quantity", "docker_resources.limits.cpu", "2 cores"),
	set("bad quantity", "resources.limits", object{"memory": "-1Gi"}).as(".memory", "-1Gi").with("resources.requests", object{}),

	set("bad duration", "polling_interval", "often"),
	set("bad duration", "grace_period", "1d"),
	set("bad duration", "parameters.cool_down", "5 m"),
	set("bad duration", "parameters.max_age", "1d"),

	set("out of range", "polling_interval", "2h").as("", "2h0m0s"),
	set("out of range", "polling_interval", "1500ms").as("", "1.5s"),
	set("out of range", "grace_period", "169h").as("", "169h0m0s"),
	set("out of range", "parameters.max_age", "721h"),
	set("out of range", "parameters.cool_down", "-1s"),
	set("out of range", "parameters.max", 101, demanded),
	set("out of range", "parameters.max", 0, demanded),
	set("out of range", "parameters.min", "x", demanded),
	set("out of range", "parameters.min", 0, demanded).byMode(),
	set("out of range", "parameters.spare", -1, demanded),
	set("out of range", "parameters.count", 101, counted),
	set("out of range", "parameters.scale_up_threshold", 1.5, demanded),
	set("out of range", "parameters.scale_down_threshold", 1, demanded),
	set("out of range", "parameters.scale_up_multiplier", 1, demanded),
	set("out of range", "parameters.scale_down_multiplier", "half", demanded),

	set("no such choice", "strategy", "guess", demanded).with("type", nil).with("repositories", nil),
	set("no such choice", "type", "automatic", demanded),
	set("no such choice", "os", "windows", amd).with("architecture", nil),
	set("no such choice", "architecture", "riscv", amd).with("os", nil),
	set("no such choice", "image_pull_policy", "Sometimes"),
	set("no such choice", "parameters.ephemeral", "perhaps"),
}

// contradictions are values that are valid by themselves.
var contradictions = []mutation{
	set("contradiction", "parameters.min", 9, demanded).with("parameters.max", 8),
	set("contradiction", "parameters.scale_down_threshold", 0.6, demanded).with("parameters.scale_up_threshold", 0.5),
	set("contradiction", "parameters.count", 3, func(g object) bool { return demanded(g) && g["type"] == nil }).with("parameters.runners_count", nil).byMode(),
	set("contradiction", "parameters.runners_count", 3, demanded).byMode(),
	set("contradiction", "parameters.runners_count", 3, counted).with("parameters.count", 2).byMode(),
	set("contradiction", "parameters.max", 3, func(g object) bool { return !demanded(g) }).byMode(),
	set("contradiction", "type", "manual", func(g object) bool { return g["strategy"] == "queuedSteps" }),
	set("contradiction", "type", "autoscaling", counted),
	set("contradiction", "repositories", []any{"app"}, idle).as("", "app").byMode(),
	set("contradiction", "repositories", []any{"app"}, func(g object) bool { return g["strategy"] == "queuedSteps" }).as("", "app").with("repository", "web").byMode(),
	set("contradiction", "os", "linux").with("architecture", "arm64").with("node_selector", nil),
	set("contradiction", "node_selector", object{"kubernetes.io/arch": "arm64"}, amd).as(".kubernetes.io/arch", "arm64").with("os", "linux").with("architecture", nil),
	set("contradiction", "resources.requests", object{"cpu": 2}).as(".cpu", "2").with("resources.limits", object{"cpu": 1}),
	set("contradiction", "docker_resources.requests", object{"memory": "2Gi"}).as(".memory", "2Gi").with("docker_resources.limits", object{"memory": "1Gi"}),
}

// podMutations change what goes into the pod unchanged.
var podMutations = []mutation{
	set("unknown key", "env", []any{object{"name": "A", "valeu": "x"}}).as("[0].valeu", ""),
	set("unknown key", "tolerations", []any{object{"key": "a"}, object{"kye": "b", "operator": "Exists"}}).as("[1].kye", ""),
	set("unknown key", "affinity", object{"nodeAffinty": object{}}).as(".nodeAffinty", ""),
	set("unknown key", "volumes", []any{object{"name": "a", "emptyDir": object{"size": "1"}}}).as("[0].emptyDir.size", "").with("volume_mounts", nil).with("docker_volume_mounts", nil),
	set("unknown key", "volume_mounts", []any{object{"name": "a", "mountPath": "/a", "path": "/b"}}).as("[0].path", "").with("volumes", []any{object{"name": "a"}}).with("docker_volume_mounts", nil),
	set("unknown key", "pod_template", object{"spec": object{"dnsPolice": "Default"}}).as(".spec.dnsPolice", ""),

	set("wrong type", "env", object{"A": "x"}),
	set("wrong type", "tolerations", []any{object{"key": "a", "tolerationSeconds": "soon"}}).as("[0].tolerationSeconds", "a string"),
	set("wrong type", "affinity", []any{"a"}),
	set("wrong type", "pod_template", "x"),
	set("wrong type", "pod_template", object{"spec": object{"priority": "high"}}).as(".spec.priority", "a string"),

	set("bad name", "env", []any{object{"name": "A=B", "value": "x"}}).as("[0].name", "A=B"),
	set("bad name", "volumes", []any{object{"name": "C_D"}}).as("[0].name", "C_D").with("volume_mounts", nil).with("docker_volume_mounts", nil),
	set("duplicate name", "env", []any{object{"name": "A"}, object{"name": "A"}}).as("[1].name", "A"),
	set("duplicate name", "volumes", []any{object{"name": "a"}, object{"name": "a"}}).as("[1].name", "a").with("volume_mounts", nil).with("docker_volume_mounts", nil),
	set("reserved name", "env", []any{object{"name": "OAUTH_CLIENT_SECRET", "value": "x"}}).as("[0].name", "OAUTH_CLIENT_SECRET"),
	set("reserved name", "volumes", []any{object{"name": "token"}}).as("[0].name", "token").with("volume_mounts", nil).with("docker_volume_mounts", nil),

	set("no such choice", "tolerations", []any{object{"key": "a", "effect": "Never"}}).as("[0].effect", "Never"),
	set("no such choice", "tolerations", []any{object{"key": "a", "operator": "In"}}).as("[0].operator", "In"),
	set("contradiction", "tolerations", []any{object{"key": "a", "operator": "Exists", "value": "b"}}).as("[0].value", "b"),
	set("contradiction", "volume_mounts", []any{object{"name": "nowhere", "mountPath": "/a"}}).as("[0].name", "nowhere").with("volumes", nil).with("docker_volume_mounts", nil),
	set("contradiction", "volume_mounts", []any{object{"name": "a", "mountPath": "/run/x"}}).as("[0].mountPath", "/run/x").with("volumes", []any{object{"name": "a"}}).with("docker_volume_mounts", nil),
	set("contradiction", "docker_volume_mounts", []any{object{"name": "a", "mountPath": "/"}}).as("[0].mountPath", "/").with("volumes", []any{object{"name": "a"}}).with("volume_mounts", nil),
	set("bad path", "volume_mounts", []any{object{"name": "a", "mountPath": "a"}}).as("[0].mountPath", "a").with("volumes", []any{object{"name": "a"}}).with("docker_volume_mounts", nil),

	set("bad reference", "images.runner", "a b"),
	set("bad reference", "images.sidecar", "ä"),
	set("bad reference", "image_mirror", "https://mirror"),
	set("bad address", "scaler_address", "nowhere"),
	set("bad address", "proxy.http", "proxy"),
	set("secret", "proxy.https", "http://user:hunter2@proxy:3128").as("", ""),

	set("breaks the pod", "pod_template", object{"spec": object{"restartPolicy": "OnFailure"}}).as(".spec.restartPolicy", "OnFailure"),
	set("breaks the pod", "pod_template", object{"spec": object{"activeDeadlineSeconds": 60}}).as(".spec.activeDeadlineSeconds", "60"),
	set("breaks the pod", "pod_template", object{"spec": object{"hostPID": true}}).as(".spec.hostPID", "true"),
	set("breaks the pod", "pod_template", object{"spec": object{"containers": []any{object{"name": "log", "image": "log"}}}}).as(".spec.containers[log]", "log"),
	set("breaks the pod", "pod_template", object{"spec": object{"initContainers": []any{object{"name": "sidecar", "$patch": "delete"}}}}).as(".spec.initContainers[sidecar]", ""),
	set("breaks the pod", "pod_template", object{"metadata": object{"annotations": object{"karpenter.sh/do-not-disrupt": "false"}}}).as(".metadata.annotations.karpenter.sh/do-not-disrupt", "false"),
}
