package lint

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

const examples = "../../deploy/examples/"

func example(t testing.TB, name string) string {
	t.Helper()
	data, err := os.ReadFile(examples + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func check(options Options, files ...string) []Finding {
	in := &Input{}
	for i, file := range files {
		in.Read(string(rune('a'+i))+".yaml", []byte(file))
	}
	return Check(in, options)
}

func TestExamplesAreClean(t *testing.T) {
	for _, name := range []string{"scaledjob.yaml", "runners_config.yaml"} {
		for _, f := range check(DefaultOptions(), example(t, name)) {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

// badCase is an input in which one rule finds something.
type badCase struct {
	rule    string
	files   []string
	options *Options
	line    string // text of the line of the finding
}

// credentialsFor returns options with a credentials set that only serves a namespace;
// without a namespace there is no set.
func credentialsFor(t *testing.T, namespace string) *Options {
	t.Helper()
	options := DefaultOptions()
	options.CredentialsDir = t.TempDir()
	if namespace == "" {
		return &options
	}
	for key, value := range map[string]string{"bitbucketAccessToken": "any", "namespaces": namespace} {
		path := filepath.Join(options.CredentialsDir, "default", key)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(value), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	return &options
}

// badCases are the example with one change each.
func badCases(t *testing.T) map[string]badCase {
	t.Helper()
	good := example(t, "scaledjob.yaml")
	frugal := DefaultOptions()
	frugal.HourlyBudget = 50
	with := func(pairs ...string) string {
		text := strings.NewReplacer(pairs...).Replace(good)
		if text == good {
			t.Fatalf("%q is not in the example", pairs)
		}
		return text
	}
	trigger := func(lines string) string { return with("      workspace: acme\n", "      workspace: acme\n"+lines) }
	second := func(pairs ...string) string { return with(append(pairs, "  name: builds\n", "  name: other\n")...) }
	pod := func(line string) string {
		return with("        enableServiceLinks: false\n", "        enableServiceLinks: false\n        "+line+"\n")
	}
	mark := func(line string) string {
		return with("          karpenter.sh/do-not-disrupt: \"true\"\n", "          karpenter.sh/do-not-disrupt: \"true\"\n          "+line+"\n")
	}
	group := func(line string) string {
		return "groups:\n- name: a\n  workspace: acme\n  labels: [x]\n  " + line + "\n"
	}
	spec := func(lines string) string { return with("  maxReplicaCount: 10\n", lines) }
	small := DefaultOptions()
	small.Nodes = []corev1.ResourceList{{corev1.ResourceCPU: resource.MustParse("1"), corev1.ResourceMemory: resource.MustParse("64Gi")}}
	config := "groups:\n- {name: a, workspace: acme, labels: [x], parameters: {min: 5, max: 4}}\n"
	return map[string]badCase{
		"an empty file":              {rule: "manifest-invalid", files: []string{""}},
		"only comments":              {rule: "manifest-invalid", files: []string{"# nothing\n---\n# yet\n"}},
		"a list":                     {rule: "manifest-invalid", files: []string{"- name: a\n"}, line: "- name"},
		"plain text":                 {rule: "manifest-invalid", files: []string{"hello\n"}, line: "hello"},
		"a misspelt kind":            {rule: "manifest-invalid", files: []string{with("kind: ScaledJob\n", "kind: Scaledjob\n")}, line: "kind: Scaledjob"},
		"a kind of another name":     {rule: "manifest-invalid", files: []string{with("kind: ScaledJob\n", "kind: ScaledTask\n")}, line: "kind: ScaledTask"},
		"a version of another KEDA":  {rule: "manifest-invalid", files: []string{with("keda.sh/v1alpha1\nkind: ScaledJob\n", "keda.sh/v1\nkind: ScaledJob\n")}, line: "keda.sh/v1"},
		"a template of Helm":         {rule: "manifest-invalid", files: []string{"a: b\n{{- if .x }}\nc: d\n{{- end }}\n"}, line: "if .x"},
		"no groups":                  {rule: "no-groups", files: []string{"apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n"}},
		"values of a chart":          {rule: "config-elsewhere", files: []string{"image: a\nscaler:\n  runners:\n    groups:\n    - {name: a, workspace: acme, labels: [x]}\n"}, line: "runners:"},
		"text in values":             {rule: "config-elsewhere", files: []string{"image: a\nconfig: |\n  groups:\n  - {name: a, workspace: acme, labels: [x]}\n"}, line: "config: |"},
		"in a ConfigMap":             {rule: "config-invalid", files: []string{"kind: ConfigMap\ndata:\n  runners_config.yaml: |\n    groups:\n    - name: a\n      workspace: acme\n      labels: [x]\n      max: 4\n"}, line: "max: 4"},
		"deadline of the Job":        {rule: "job-deadline", files: []string{with("    backoffLimit: 0\n", "    backoffLimit: 0\n    activeDeadlineSeconds: 3600\n")}, line: "activeDeadline"},
		"deadline of the pod":        {rule: "job-deadline", files: []string{pod("activeDeadlineSeconds: 3600")}, line: "activeDeadline"},
		"two pods":                   {rule: "one-pod-per-job", files: []string{with("    parallelism: 1\n", "    parallelism: 2\n")}, line: "parallelism"},
		"another pod":                {rule: "one-pod-per-job", files: []string{with("    backoffLimit: 0\n", "")}, line: "jobTargetRef"},
		"a pod beside the old one":   {rule: "one-pod-per-job", files: []string{with("    podReplacementPolicy: Failed\n", "")}, line: "jobTargetRef"},
		"a restarted pod":            {rule: "one-pod-per-job", files: []string{with("        restartPolicy: Never\n", "        restartPolicy: OnFailure\n")}, line: "OnFailure"},
		"suspended":                  {rule: "job-suspended", files: []string{with("    backoffLimit: 0\n", "    backoffLimit: 0\n    suspend: true\n")}, line: "suspend"},
		"Istio":                      {rule: "injected-proxy", files: []string{mark("sidecar.istio.io/inject: \"true\"")}, line: "istio"},
		"Linkerd":                    {rule: "injected-proxy", files: []string{mark("linkerd.io/inject: enabled")}, line: "linkerd"},
		"Istio, by the namespace":    {rule: "injected-proxy", files: []string{with("    pod-security.kubernetes.io/enforce", "    istio-injection: enabled\n    pod-security.kubernetes.io/enforce")}, line: "annotations"},
		"second container":           {rule: "second-container", files: []string{with("        containers:\n", "        containers:\n        - {name: logs, image: fluent-bit}\n")}, line: "logs"},
		"the node's processes":       {rule: "shared-processes", files: []string{pod("hostPID: true")}, line: "hostPID"},
		"the pod's processes":        {rule: "shared-processes", files: []string{pod("shareProcessNamespace: true")}, line: "shareProcess"},
		"liveness probe":             {rule: "liveness-probe", files: []string{with("          name: runner\n", "          name: runner\n          livenessProbe: {exec: {command: [pgrep, java]}}\n")}, line: "livenessProbe"},
		"identity":                   {rule: "identity-variables", files: []string{with("          env:\n          - name: SIDECAR_DIR\n            value: /opt/bitbucket-runner-scaler\n          # EDIT", "          env:\n          - name: RUNNER_UUID\n            value: x\n          # EDIT")}, line: "RUNNER_UUID"},
		"the sidecar's token":        {rule: "sidecars-volumes", files: []string{with("          - mountPath: /var/run\n            name: var-run\n          - mountPath: /opt", "          - mountPath: /token\n            name: token\n          - mountPath: /opt")}, line: "/token"},
		"the sidecar's socket":       {rule: "sidecars-volumes", files: []string{with("          - mountPath: /var/run\n            name: var-run\n        nodeSelector", "          - mountPath: /x\n            name: bitbucket-runner-scaler\n        nodeSelector")}, line: "/x"},
		"another account":            {rule: "service-account-token", files: []string{with("serviceAccountName: bitbucket-runner", "serviceAccountName: builder")}, line: "builder"},
		"nodes of another kind":      {rule: "architecture", files: []string{trigger("      os: linux.arm64\n")}, line: "kubernetes.io/arch"},
		"millibytes":                 {rule: "implausible-size", files: []string{with("              memory: 2Gi\n            requests", "              memory: 2048m\n            requests")}, line: "2048m"},
		"megabytes, as configured":   {rule: "implausible-size", files: []string{group("docker_resources: {limits: {memory: 2M}}")}, line: "2M"},
		"a thousand processors":      {rule: "implausible-size", files: []string{group("resources: {limits: {cpu: 1000}}")}, line: "1000"},
		"Docker on TCP":              {rule: "docker-on-network", files: []string{with("          - dockerd\n", "          - dockerd\n          - -H\n          - tcp://0.0.0.0:2375\n")}, line: "args"},
		"Docker's own entrypoint":    {rule: "docker-on-network", files: []string{with("          - dockerd\n", "")}, line: "args"},
		"Docker without arguments":   {rule: "docker-on-network", files: []string{with("        - args:\n          - dockerd\n          # Listen on the socket only: a privileged daemon must not be on the network.\n          - --host=unix:///var/run/docker.sock\n          env", "        - env")}, line: "- env"},
		"Docker in a shell":          {rule: "docker-on-network", files: []string{with("        - args:\n          - dockerd\n", "        - command: [sh, -c, 'exec dockerd --host=tcp://:2375']\n          args:\n")}, line: "args"},
		"no memory for the steps":    {rule: "docker-memory", files: []string{with("memory: 4Gi", "ephemeral-storage: 4Gi", "memory: 1Gi", "ephemeral-storage: 1Gi")}, line: "resources"},
		"privileged shell":           {rule: "privileged-shell", files: []string{trigger("      os: linux.shell\n")}, line: "privileged"},
		"misspelt keys":              {rule: "metadata-invalid", files: []string{with("      workspace: acme\n", "      workspaces: acme\n", "      labels: builds\n", "      label: builds\n")}, line: "workspaces"},
		"misspelt address":           {rule: "metadata-invalid", files: []string{with("      scalerAddress: bitbucket-runner-scaler.", "      scaler_addr: bitbuket-runner-scaler.")}, line: "scaler_addr"},
		"not YAML":                   {rule: "manifest-invalid", files: []string{"a: [\n"}},
		"field of another type":      {rule: "manifest-invalid", files: []string{spec("  maxReplicaCount: many\n")}},
		"configuration":              {rule: "config-invalid", files: []string{config}, line: "max: 4"},
		"grace, as configured":       {rule: "grace-too-short", files: []string{"groups:\n- {name: a, workspace: acme, labels: [x],\n   grace_period: 10m}\n"}, line: "grace_period"},
		"maximum, as configured":     {rule: "scope-limit", files: []string{good, "groups:\n- name: a\n  workspace: acme\n  labels: [x]\n  parameters:\n    min: 1\n    max: 100\n"}, line: "max"},
		"the older form's":           {rule: "scope-limit", files: []string{good, "config:\n- name: a\n  workspace: acme\n  labels: [x]\n  type: autoscaling\n  parameters:\n    min: 1\n    max: 100\n"}, line: "max"},
		"beside a faulty group":      {rule: "grace-too-short", files: []string{config + "- name: b\n  workspace: acme\n  labels: [y]\n  grace_period: 10m\n"}, line: "grace_period"},
		"labels, as configured":      {rule: "overlapping-labels", files: []string{good, "groups:\n- name: a\n  workspace: acme\n  labels: [builds]\n"}, line: "labels"},
		"unknown key":                {rule: "metadata-invalid", files: []string{trigger("      maks: \"3\"\n")}, line: "maks"},
		"os label":                   {rule: "metadata-invalid", files: []string{with("labels: builds\n", "labels: linux\n")}, line: "labels: linux"},
		"minimum of KEDA":            {rule: "min-replica-count", files: []string{spec("  maxReplicaCount: 10\n  minReplicaCount: 2\n")}, line: "minReplicaCount"},
		"strategy of Jobs":           {rule: "scaling-strategy", files: []string{with("    strategy: default", "    strategy: accurate")}, line: "accurate"},
		"rollout":                    {rule: "rollout-not-gradual", files: []string{with("    strategy: gradual", "    strategy: default")}},
		"maximum":                    {rule: "max-replica-count", files: []string{spec("  maxReplicaCount: 20\n")}, line: "maxReplicaCount"},
		"external push":              {rule: "external-push", files: []string{with("type: external\n", "type: external-push\n")}, line: "external-push"},
		"second trigger":             {rule: "second-trigger", files: []string{with("    type: external\n", "    type: external\n  - type: cron\n    metadata: {a: b}\n")}},
		"calculation":                {rule: "second-trigger", files: []string{with("    strategy: default", "    strategy: default\n    multipleScalersCalculation: max")}, line: "multipleScalers"},
		"no minimum":                 {rule: "metadata-invalid", files: []string{trigger("      min: \"0\"\n")}, line: "min:"},
		"no minimum of the queue":    {rule: "nobody-online", files: []string{trigger("      strategy: queuedSteps\n      min: \"0\"\n")}, line: "min:"},
		"overlapping windows":        {rule: "schedule-overlap", files: []string{trigger("      schedules: '[{\"start\":\"0 7 * * *\",\"end\":\"0 12 * * *\",\"min\":2},{\"start\":\"0 11 * * 5\",\"end\":\"0 18 * * 5\",\"min\":3}]'\n")}, line: "schedules"},
		"a gap between windows":      {rule: "schedule-gap", files: []string{trigger("      schedules: '[{\"start\":\"0 7 * * *\",\"end\":\"0 12 * * *\",\"min\":2},{\"start\":\"30 12 * * *\",\"end\":\"0 18 * * *\",\"min\":3}]'\n")}, line: "schedules"},
		"a window at a clock change": {rule: "schedule-dst", files: []string{trigger("      schedules: '[{\"start\":\"30 2 * * 0\",\"end\":\"0 5 * * 0\",\"timezone\":\"Europe/Berlin\",\"min\":2}]'\n")}, line: "schedules"},
		"a window without minimum":   {rule: "nobody-online", files: []string{trigger("      strategy: queuedSteps\n      schedules: '[{\"start\":\"0 19 * * *\",\"end\":\"0 7 * * *\",\"min\":0}]'\n")}, line: "schedules"},
		"no spare":                   {rule: "ephemeral-without-spare", files: []string{trigger("      ephemeral: \"true\"\n      spare: \"0\"\n")}, line: "spare"},
		"control plane":              {rule: "reserved-namespace", files: []string{with("namespace: bitbucket-runner\n", "namespace: bitbucket-runner-scaler\n")}, line: "namespace"},
		"TLS without authority":      {rule: "scaler-tls", files: []string{with("authenticationRef:\n      name: bitbucket-runner-scaler\n    metadata", "metadata")}, line: "enableTLS"},
		"address without port":       {rule: "scaler-tls", files: []string{with("      scalerAddress: bitbucket-runner-scaler.bitbucket-runner-scaler.svc.cluster.local:9090", "      scalerAddress: scaler")}, line: "scalerAddress"},
		"memory":                     {rule: "runner-memory", files: []string{with("memory: 2Gi", "ephemeral-storage: 2Gi")}},
		"token":                      {rule: "token-life", files: []string{with("43200", "3600")}, line: "3600"},
		"token almost too short":     {rule: "token-life", files: []string{with("43200", "38999")}, line: "38999"},
		"grace":                      {rule: "grace-too-short", files: []string{with("7800", "600")}, line: "600"},
		"cluster-autoscaler":         {rule: "eviction-protection", files: []string{with("safe-to-evict: \"false\"", "safe-to-evict: \"true\"")}, line: "safe-to-evict"},
		"Karpenter":                  {rule: "eviction-protection", files: []string{with("          karpenter.sh/do-not-disrupt: \"true\"\n", "")}},
		"sidecar":                    {rule: "sidecar-missing", files: []string{with("- /sidecar\n          - run\n", "- /other\n          - run\n")}, line: "initContainers"},
		"wrapper":                    {rule: "sidecar-missing", files: []string{with("          - exec\n          - --\n", "")}, line: "command"},
		"preStop":                    {rule: "sidecar-missing", files: []string{with("                - drain\n", "                - wait\n")}, line: "lifecycle"},
		"token of the cluster":       {rule: "service-account-token", files: []string{with("        automountServiceAccountToken: false\n", "")}},
		"nodes":                      {rule: "no-node-fits", files: []string{good}, options: &small},
		"equal labels":               {rule: "overlapping-labels", files: []string{good, second()}},
		"labels of another":          {rule: "labels-subset", files: []string{good, second("labels: builds\n", "labels: builds,large\n")}, line: "labels: builds"},
		"over 100 runners":           {rule: "scope-limit", files: []string{good, second("labels: builds\n", "labels: b\n      max: \"95\"\n")}, line: "max"},
		"short maximum age":          {rule: "hourly-budget", files: []string{trigger("      maxAge: 60s\n")}},
		"a smaller budget":           {rule: "stretched-lists", files: []string{good}, options: &frugal},
		"no set of credentials":      {rule: "missing-credentials", files: []string{good}, options: credentialsFor(t, "")},
		"set for another namespace":  {rule: "missing-credentials", files: []string{good}, options: credentialsFor(t, "elsewhere")},
	}
}

func TestEveryRuleFindsItsFault(t *testing.T) {
	covered := map[string]bool{}
	for name, test := range badCases(t) {
		covered[test.rule] = true
		t.Run(name, func(t *testing.T) {
			options := DefaultOptions()
			if test.options != nil {
				options = *test.options
			}
			findings := check(options, test.files...)
			for _, f := range findings {
				if f.Rule != test.rule {
					continue
				}
				text := strings.Split(test.files[int(f.File[0]-'a')], "\n")
				if test.line != "" && (f.Line == 0 || !strings.Contains(text[f.Line-1], test.line)) {
					continue
				}
				return
			}
			t.Errorf("got %+v, want a finding of %s on the line with %q", findings, test.rule, test.line)
		})
	}
	for _, r := range Rules() {
		if !covered[r.ID] {
			t.Errorf("rule %s has no bad case", r.ID)
		}
	}
}

func FuzzReadNeverPanics(f *testing.F) {
	for _, name := range []string{"scaledjob.yaml", "runners_config.yaml"} {
		f.Add([]byte(example(f, name)))
	}
	f.Fuzz(func(_ *testing.T, data []byte) {
		check(DefaultOptions(), string(data))
	})
}
