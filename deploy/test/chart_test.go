package deploytest

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
)

func TestTheChartGivesWhatTheOverlayGives(t *testing.T) {
	cases := map[string]objects{"base": kustomized(t, "base")}
	for _, overlay := range overlays(t) {
		cases[overlay] = kustomized(t, "overlays/"+overlay)
	}
	// The chart has runner groups only if the values have some, which another test compares.
	for key := range kustomized(t, "examples") {
		if _, ok := cases["network-policy"][key]; !ok {
			t.Errorf("network-policy has not the example's %s", key)
		}
		delete(cases["network-policy"], key)
	}
	for overlay, want := range cases {
		t.Run(overlay, func(t *testing.T) {
			if diff := cmp.Diff(want, withoutHelm(chartedFor(t, overlay))); diff != "" {
				t.Errorf("overlay -, chart +:\n%s", diff)
			}
		})
	}
	files, err := filepath.Glob(filepath.Join(chartDir, "ci", "*.yaml"))
	if err != nil || len(files) != len(cases)+1 {
		t.Errorf("%d files of values for %d overlays, the base and groups: %v", len(files), len(cases)-1, err)
	}
}

func TestTheChartKeepsTwoInstallationsApart(t *testing.T) {
	here, _, err := charted(controlPlane, object{})
	if err != nil {
		t.Fatal(err)
	}
	values := parsed(t, "{tls: {mode: certManager, issuer: {name: mine}}, networkPolicy: {enabled: true}, credentials: {other: {accessToken: t, namespaces: [x]}}}")
	there, notes, err := charted("other", values)
	if err != nil {
		t.Fatal(err)
	}
	for key, fields := range there {
		if _, both := here[key]; both {
			t.Errorf("%s belongs to both", key)
		}
		if text := flat(fields); inControlPlane.MatchString(text) {
			t.Errorf("%s names the other's namespace: %s", key, text)
		}
	}
	if inControlPlane.MatchString(notes) || !strings.Contains(notes, name+".other.svc.cluster.local:9090") {
		t.Errorf("notes:\n%s", notes)
	}
}

// inControlPlane finds the default namespace of the control plane where a namespace is
// meant: other things have the same name.
var inControlPlane = regexp.MustCompile(`(namespace|metadata\.name): ` + controlPlane + `\b|\.` + controlPlane + `(\.svc|$)|serviceaccount:` + controlPlane + `:|-n ` + controlPlane + `\b|-` + controlPlane + `\b`)

// flat is every key and value of an object, a line each.
func flat(value any) string {
	switch v := value.(type) {
	case object:
		var text strings.Builder
		for _, key := range slices.Sorted(maps.Keys(v)) {
			text.WriteString(key + ": " + flat(v[key]) + "\n")
		}
		return text.String()
	case []any:
		lines := make([]string, len(v))
		for i, item := range v {
			lines[i] = flat(item)
		}
		return strings.Join(lines, "\n")
	case string:
		return v
	default:
		return ""
	}
}

func TestGoodValuesAreTaken(t *testing.T) {
	for name, values := range map[string]string{
		"an image with a port":        `{image: {repository: "registry.example.com:5000/team/scaler", tag: v1.2.3, pullPolicy: Always}, imagePullSecrets: [{name: registry}]}`,
		"a Secret of one's own":       `credentials: {default: {existingSecret: mine}}`,
		"everywhere":                  `credentials: {default: {accessToken: "ATCTT3x=1", namespaces: ["*"]}}`,
		"a certificate in a Secret":   `tls: {mode: existingSecret, secretName: mine}`,
		"a certificate by an Issuer":  `tls: {mode: certManager, issuer: {kind: Issuer, name: mine}}`,
		"flags":                       `extraArgs: ["--poll-interval=2m", "--log-level=debug"]`,
		"where it runs":               `{nodeSelector: {pool: system}, tolerations: [{key: pool, operator: Exists}], priorityClassName: high}`,
		"a ConfigMap of one's own":    `existingCABundle: mine`,
		"a subchart's global values":  `global: {anything: true}`,
		"webhooks without a route":    `{webhook: {enabled: true}, credentials: {default: {accessToken: t, namespaces: [x], webhookSecret: 0123456789abcdef}}}`,
		"webhooks by an Ingress":      `{webhook: {enabled: true, host: runners.example.com}, ingress: {enabled: true, annotations: {cert-manager.io/cluster-issuer: mine}}}`,
		"webhooks by a Gateway here":  `{webhook: {enabled: true, host: runners.example.com}, httpRoute: {enabled: true, parentRefs: [{name: mine}]}}`,
		"all for Prometheus":          `{podMonitor: {enabled: true, interval: 1m30s}, prometheusRule: {enabled: true, alerts: {BitbucketRunnerAtMax: {threshold: 2.5}}}, dashboard: {enabled: true}}`,
		"headers of a collector":      `traces: {endpoint: "https://collector.example.com", protocol: grpc, headersSecret: mine}`,
		"variables":                   `extraEnv: [{name: OTEL_TRACES_SAMPLER, value: always_on}, {name: TOKEN, valueFrom: {secretKeyRef: {name: mine, key: token}}}]`,
		"policies for two namespaces": `networkPolicy: {enabled: true, runnerNamespaces: [team-a, team-b]}`,
	} {
		t.Run(name, func(t *testing.T) {
			found, _, err := charted(controlPlane, parsed(t, values))
			if err != nil {
				t.Fatal(err)
			}
			typed(t, found)
		})
	}
}

func TestBadValuesAreRefusedByTheirPath(t *testing.T) {
	for name, c := range map[string]struct{ values, path string }{
		"an unknown value":                   {`replicas: 2`, "replicas"},
		"an unknown value deep down":         {`image: {name: x}`, "/image"},
		"no replica":                         {`replicaCount: 0`, "/replicaCount"},
		"half a replica":                     {`replicaCount: 1.5`, "/replicaCount"},
		"replicas as text":                   {`replicaCount: "2"`, "/replicaCount"},
		"a tag in the repository":            {`image: {repository: "registry.example.com/scaler:v1"}`, "/image/repository"},
		"no repository":                      {`image: {repository: ""}`, "image.repository"},
		"a number as tag":                    {`image: {tag: 1.0}`, "/image/tag"},
		"a policy that is none":              {`image: {pullPolicy: Sometimes}`, "/image/pullPolicy"},
		"a cluster name with a dash":         {`cluster: prod-1`, "/cluster"},
		"no credentials set at all":          {`credentials: {default: null}`, "/credentials"},
		"a set whose name is no folder":      {`credentials: {"../x": {}}`, "../x"},
		"a misspelt key of a set":            {`credentials: {default: {exisitingSecret: a}}`, "additional properties 'exisitingSecret' not allowed"},
		"namespaces of no credentials":       {`credentials: {default: {namespaces: [x]}}`, "/credentials/default"},
		"a webhook's secret alone":           {`credentials: {default: {webhookSecret: 0123456789abcdef}}`, "/credentials/default"},
		"half an OAuth consumer":             {`credentials: {default: {oauthClientId: a, namespaces: [x]}}`, "/credentials/default"},
		"two kinds in one set":               {`credentials: {default: {oauthClientId: a, oauthClientSecret: b, accessToken: c, namespaces: [x]}}`, "/credentials/default"},
		"a Secret and keys":                  {`credentials: {default: {existingSecret: a, accessToken: c}}`, "/credentials/default"},
		"credentials that serve nobody":      {`credentials: {default: {accessToken: c, namespaces: []}}`, "/credentials/default/namespaces"},
		"credentials without namespaces":     {`credentials: {default: {accessToken: c}}`, "/credentials/default"},
		"a namespace that cannot be":         {`credentials: {default: {accessToken: c, namespaces: [Team_A]}}`, "/credentials/default/namespaces/0"},
		"an empty secret":                    {`credentials: {default: {accessToken: "", namespaces: [x]}}`, "/credentials/default/accessToken"},
		"an unknown way of TLS":              {`tls: {mode: off}`, "/tls/mode"},
		"cert-manager without an issuer":     {`tls: {mode: certManager}`, "/tls/issuer/name"},
		"an issuer of another kind":          {`tls: {issuer: {kind: CA}}`, "/tls/issuer/kind"},
		"an Ingress without a host":          {`{webhook: {enabled: true}, ingress: {enabled: true}}`, "/webhook/host"},
		"an Ingress without webhooks":        {`{webhook: {host: runners.example.com}, ingress: {enabled: true}}`, "/webhook/enabled"},
		"a route without a Gateway":          {`{webhook: {enabled: true, host: runners.example.com}, httpRoute: {enabled: true}}`, "/httpRoute/parentRefs"},
		"an address as host":                 {`webhook: {enabled: true, host: "https://runners.example.com"}`, "/webhook/host"},
		"a short secret of webhooks":         {`credentials: {default: {accessToken: c, namespaces: [x], webhookSecret: short}}`, "/credentials/default/webhookSecret"},
		"a change of no alert":               {`prometheusRule: {alerts: {RunnerSad: {enabled: false}}}`, "/prometheusRule/alerts"},
		"a threshold as text":                {`prometheusRule: {alerts: {BitbucketRunnerAtMax: {threshold: many}}}`, "/prometheusRule/alerts/BitbucketRunnerAtMax/threshold"},
		"a repository without a scheme":      {`prometheusRule: {repository: docs}`, "/prometheusRule/repository"},
		"an interval without a unit":         {`podMonitor: {interval: "30"}`, "/podMonitor/interval"},
		"a label that is no text":            {`dashboard: {labels: {grafana_dashboard: 1}}`, "/dashboard/labels/grafana_dashboard"},
		"a proxy without a scheme":           {`proxy: {url: "proxy:3128"}`, "/proxy/url"},
		"a collector without a scheme":       {`traces: {endpoint: "collector:4317"}`, "/traces/endpoint"},
		"a protocol that is not spoken":      {`traces: {protocol: http/json}`, "/traces/protocol"},
		"a variable without a name":          {`extraEnv: [{value: x}]`, "/extraEnv/0"},
		"a flag without dashes":              {`extraArgs: [poll-interval=2m]`, "/extraArgs/0"},
		"flags that are no list":             {`extraArgs: "--poll-interval=2m"`, "/extraArgs"},
		"a node label that is no text":       {`nodeSelector: {pool: 1}`, "/nodeSelector/pool"},
		"a flag that there is not":           {`extraArgs: [--poll-intervall=2m]`, "/extraArgs/0"},
		"a flag with its value beside it":    {`extraArgs: [--poll-interval, 2m]`, "/extraArgs/0"},
		"a label that selects pods":          {`commonLabels: {app.kubernetes.io/name: x}`, "/commonLabels"},
		"the leader's label":                 {`podLabels: {bitbucket-runner-scaler/role: leader}`, "/podLabels"},
		"an account that nobody names":       {`serviceAccount: {create: false}`, "/serviceAccount/name"},
		"a name that no Service can have":    {`fullnameOverride: Runners.1`, "/fullnameOverride"},
		"half a digest":                      {`image: {repository: x, digest: "sha256:0a"}`, "/image/digest"},
		"no replica for a node":              {`podDisruptionBudget: {maxUnavailable: 0}`, "/podDisruptionBudget/maxUnavailable"},
		"a constraint without a topology":    {`topologySpreadConstraints: [{maxSkew: 1}]`, "/topologySpreadConstraints/0"},
		"resources of the container's level": {`resources: {cpu: 1}`, "/resources"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := charted(controlPlane, parsed(t, c.values))
			if err == nil || !strings.Contains(err.Error(), c.path) {
				t.Errorf("got %v, want an error that names %s", err, c.path)
			}
		})
	}
}

// A value that is null has no default any more: it is refused by its name, or means that there is
// none.
func TestAValueThatIsNullIsRefusedByNameOrEmpty(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(chartDir, "values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	const all = `{image: {repository: scaler}, groups: [{name: a, workspace: acme, labels: [a]}], webhook: {enabled: true, host: hooks.example.com},
  ingress: {enabled: true}, podMonitor: {enabled: true}, prometheusRule: {enabled: true}, dashboard: {enabled: true}, networkPolicy: {enabled: true},
  traces: {endpoint: http://collector:4318}, proxy: {url: http://proxy:3128}}` // so that what is null is used
	var try func(path []string, defaults object)
	try = func(path []string, defaults object) {
		for key, value := range defaults {
			path := append(slices.Clone(path), key)
			values := parsed(t, all)
			in := values
			for _, parent := range path[:len(path)-1] {
				if _, ok := in[parent]; !ok {
					in[parent] = object{}
				}
				in = in[parent].(object)
			}
			in[key] = nil
			found, err := installed(t, values)
			if err == nil {
				typed(t, found)
			} else if !strings.Contains(err.Error(), "missing property '"+key+"'") &&
				!strings.Contains(err.Error(), "at '/"+path[0]+"'") && !strings.Contains(err.Error(), key+" is not set") {
				t.Errorf("%s: got %v, want an error that names it", strings.Join(path, "."), err)
			}
			inner, ok := value.(object)
			if ok && key != "resources" && key != "podSecurityContext" && key != "securityContext" { // whose keys are Kubernetes' own
				try(path, inner)
			}
		}
	}
	try(nil, parsed(t, string(text)))
}

// installed renders the chart as `helm install` does, for which a value that is missing is empty.
func installed(t *testing.T, values object) (objects, error) {
	t.Helper()
	loaded, err := loader.Load(chartDir)
	if err != nil {
		t.Fatal(err)
	}
	found, _, err := renderedBy(engine.Engine{}, loaded, chartutil.ReleaseOptions{Name: name, Namespace: controlPlane, IsInstall: true, Revision: 1}, values)
	return found, err
}

func TestEveryValueIsExplained(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(chartDir, "values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	schema := valuesIn(t, filepath.Join(chartDir, "values.schema.json"))
	properties := schema["properties"].(object)
	values := parsed(t, string(text))
	values["global"] = nil                                // Helm's own
	for _, key := range []string{"config", "constants"} { // which are refused with a hint
		delete(properties, key)
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(properties)), slices.Sorted(maps.Keys(values))); diff != "" {
		t.Errorf("values of the schema -, of values.yaml +:\n%s", diff)
	}
	table, err := os.ReadFile(filepath.Join(chartDir, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile(`(?m)^\| ([a-zA-Z_.]+) \| [a-z]+ \| .* \| (.*) \|$`).FindAllStringSubmatch(string(table), -1)
	for _, row := range rows {
		if strings.TrimSpace(row[2]) == "" {
			t.Errorf("%s has no comment of the form `# -- ...`", row[1])
		}
	}
	if len(rows) < len(properties) {
		t.Errorf("the README has %d values, want at least %d", len(rows), len(properties))
	}
}
