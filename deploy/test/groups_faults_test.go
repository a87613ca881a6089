package deploytest

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"bitbucket-runner-scaler/jobfactory/config"
	"bitbucket-runner-scaler/jobfactory/config/configtest"
)

var groupOf = regexp.MustCompile(`^(groups|config)\[([0-9]+)\]`)

// What `runnerctl render` refuses is refused by the chart too, with the group and the key.
func TestGeneratedBadGroupsAreRefused(t *testing.T) {
	for seed := range uint64(generated) {
		file := configtest.Bad(seed)
		// What is wrong outside of the groups is not in the values.
		faults := slices.DeleteFunc(file.Faults, func(f configtest.Fault) bool { return !groupOf.MatchString(f.Path) })
		if len(faults) == 0 {
			continue
		}
		_, _, err := charted(controlPlane, listed(t, file.YAML))
		switch {
		case err == nil:
			t.Errorf("seed %d: accepted with %v", seed, faults)
		case strings.Contains(err.Error(), "faults of the runner groups"):
			for _, fault := range faults {
				if file.Form != configtest.Older && !strings.Contains(err.Error(), "\n"+strings.TrimSuffix(fault.Path, ".")) {
					t.Errorf("seed %d: %v is not reported: %v", seed, fault, err)
				}
			}
		case !slices.ContainsFunc(faults, func(f configtest.Fault) bool {
			return strings.Contains(err.Error(), "/groups/"+groupOf.FindStringSubmatch(f.Path)[2])
		}):
			t.Errorf("seed %d: %v is not reported: %v", seed, faults, err)
		}
	}
}

// bad are groups that are not accepted, in addition to the keys of a good one, with what
// the chart says.
var bad = map[string]struct {
	keys, want string
	// own says that only the chart says so.
	own bool
}{
	"a misspelt key":              {`lables: [a]`, "at '/groups/0': additional properties 'lables' not allowed", true},
	"a number as label":           {`labels: [1.10]`, "at '/groups/0/labels/0': got number, want null or string", true},
	"a misspelt key of the patch": {`pod_template: {spec: {dnsPolice: Default}}`, "at '/groups/0/pod_template/spec': additional properties 'dnsPolice' not allowed", true},
	"no name":                     {`name: null`, `groups[0].name: "", want a text with 1 to 57 letters and digits`, true},
	"no variable":                 {`env: [null]`, "at '/groups/0/env/0': got null, want object", true},
	"a name without ASCII":        {`name: Läufer`, `groups[0].name: "Läufer", want ASCII characters`, true},
	"two spellings of a key":      {`{node_selector: {a: b}, nodeSelector: {a: b}}`, `groups[0].node_selector: given in two spellings, want one`, true},
	"another directive":           {`pod_template: {spec: {"$retainKeys": [a]}}`, "groups[0].pod_template.spec.$retainKeys: not in the chart", true},
	"the control plane's place":   {`namespace: bitbucket-runner-scaler`, `groups[0].namespace: "bitbucket-runner-scaler", want another namespace: this one is the control plane's, which has the credentials`, false},
	"more at least than at most":  {`parameters: {min: 9, max: 8}`, `groups[0].parameters.min: "9", want at most max, which is 8`, false},
	"none, by the ratio":          {`parameters: {min: 0}`, `groups[0].parameters.min: "0", want at least 1, or strategy queuedSteps: without a runner`, false},
	"thresholds that cross":       {`parameters: {scale_up_threshold: 0.3, scale_down_threshold: 0.4}`, `groups[0].parameters.scale_down_threshold: "0.4", want less than scaleUpThreshold, which is 0.3`, false},
	"fixed without a count":       {`{strategy: fixed, parameters: {}}`, `groups[0].parameters.count: missing, want 0 to 100 with strategy fixed`, false},
	"fixed with a maximum":        {`{strategy: fixed, parameters: {count: 2, max: 3}}`, `groups[0].parameters.max: "3", want nothing: strategy fixed takes only count`, false},
	"a look ahead by the ratio":   {`parameters: {look_ahead: 30s}`, `groups[0].parameters.look_ahead: "30s", want only with strategy queuedSteps`, false},
	"a window that opens nothing": {`schedules: [{start: 0 7 * * *, end: 0 19 * * *}]`, `groups[0].schedules[0]: min, max or spare is missing: the window would change nothing`, false},
	"a window with too few":       {`schedules: [{start: 0 7 * * *, end: 0 19 * * *, min: 9, max: 3}]`, `groups[0].schedules[0]: "min 9, max 3", want min at most max, of which one may be that of the group`, false},
	"only labels of all runners":  {`labels: [self.hosted]`, `groups[0].labels: "self.hosted", want a custom label too: every runner has these`, false},
	"a reserved label":            {`labels: [keda.mine]`, `groups[0].labels: "keda.mine", want no label that begins with keda., which is reserved for the scaler`, false},
	"nodes of another kind":       {`{os: linux, node_selector: {kubernetes.io/arch: arm64}}`, `groups[0].node_selector.kubernetes.io/arch: "arm64", want the group's architecture, which is amd64`, false},
	"half a second":               {`polling_interval: 1500ms`, `want whole seconds from 1s to 1h`, false},
	"a request above its limit":   {`resources: {requests: {memory: 3Gi}, limits: {memory: 2048Mi}}`, `groups[0].resources.requests.memory: "3Gi", want at most the limit, which is 2`, true},
	"a proxy with a password":     {`proxy: {https: "http://user:hunter2@proxy:3128"}`, `groups[0].proxy.https: has credentials, want none: anyone who may read the ScaledJob could read them`, false},
	"a daemon on the network":     {`docker_args: ["-H=tcp://0.0.0.0"]`, `groups[0].docker_args[0]: "-H=tcp://0.0.0.0", want no host and no TLS: the daemon listens on its socket only`, false},
	"a variable of the sidecar":   {`env: [{name: SIDECAR_DIR, value: /x}]`, `groups[0].env[0].name: "SIDECAR_DIR", want another name: the sidecar sets this variable`, false},
	"a mount over the daemon's":   {`{volumes: [{name: a, emptyDir: {}}], docker_volume_mounts: [{name: a, mountPath: /run}]}`, `groups[0].docker_volume_mounts[0].mountPath: "/run", want a path that does not overlap with another mount of the container`, false},
	"a deadline":                  {`pod_template: {spec: {activeDeadlineSeconds: 60}}`, `groups[0].pod_template.spec.activeDeadlineSeconds: "60", want none: a deadline would kill a busy runner`, false},
	"a second container":          {`pod_template: {spec: {containers: [{name: log, image: log}]}}`, `groups[0].pod_template.spec.containers[log]: "log", want an init container with restartPolicy Always: the Job ends with its last container`, false},
	"a shared token":              {`pod_template: {spec: {containers: [{name: runner, volumeMounts: [{name: token, mountPath: /t}]}]}}`, `groups[0].pod_template.spec.containers[runner].volumeMounts[/t]: "token", want another volume: this one is the sidecar's`, false},
	"no drain":                    {`pod_template: {spec: {containers: [{name: runner, lifecycle: null}]}}`, `it drains the runner of a deleted pod`, false},
	"a probe of the daemon":       {`pod_template: {spec: {initContainers: [{name: docker, livenessProbe: {tcpSocket: {port: 1}}}]}}`, `want none: a restarted container loses the step`, false},
	"a volume that is shared":     {`pod_template: {spec: {volumes: [{name: tmp, "$patch": delete}]}}`, `groups[0].pod_template.spec.volumes[tmp]`, false},
}

func TestBadGroupsAreRefusedInTheWordsOfRender(t *testing.T) {
	for name, c := range bad {
		t.Run(name, func(t *testing.T) {
			group := parsed(t, `{name: builds, workspace: acme, labels: [builds]}`)
			for key, value := range parsed(t, c.keys) {
				group[key] = value
			}
			values := object{"groups": []any{group}}
			_, _, err := charted(controlPlane, values)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
			if c.own {
				return
			}
			if _, err := config.Read(encoded(t, values)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("render says %v, want %s", err, c.want)
			}
		})
	}
}

func TestAllFaultsOfAllGroupsAreReportedAtOnce(t *testing.T) {
	values := parsed(t, `groups: [{name: a, workspace: x/y, labels: [A]}, {name: a, workspace: acme, labels: [b], parameters: {max: 0}}]`)
	_, _, err := charted(controlPlane, values)
	for _, want := range []string{"groups[0].workspace", "groups[0].labels", "groups[1].name", "groups[1].parameters.max"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want a fault of %s", err, want)
		}
	}
}
