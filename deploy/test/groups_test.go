package deploytest

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"bitbucket-runner-scaler/externalscaler/runnergroup"
	"bitbucket-runner-scaler/jobfactory"
	"bitbucket-runner-scaler/jobfactory/config"
	"bitbucket-runner-scaler/jobfactory/config/configtest"
)

// How many generated configurations are compared, and how many are refused.
const (
	generated    = 100
	generatedBad = 100
)

// addedLabels are what the chart adds to what `runnerctl render` writes, with their values.
var addedLabels = map[string]string{
	"helm.sh/chart": name + "-", "app.kubernetes.io/instance": name, "app.kubernetes.io/managed-by": "Helm", "app.kubernetes.io/version": "",
}

// listed returns the groups of a configuration, in either form, as the chart's values.
func listed(t *testing.T, file []byte) object {
	t.Helper()
	content := parsed(t, string(file))
	groups := content["groups"]
	if groups == nil {
		groups = content["config"]
	}
	values := maps.Clone(release)
	values["groups"] = groups
	return values
}

// withoutConstants returns a configuration with nothing but its groups.
func withoutConstants(t *testing.T, file []byte) []byte {
	t.Helper()
	if content := parsed(t, string(file)); content["constants"] == nil && content["config"] == nil {
		return file // numbers stay as they are written
	}
	return encoded(t, object{"groups": listed(t, file)["groups"]})
}

func encoded(t *testing.T, values object) []byte {
	t.Helper()
	text, err := yaml.Marshal(values)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// renderedGroups returns what `runnerctl render` writes for a configuration.
func renderedGroups(t *testing.T, file []byte) objects {
	t.Helper()
	content, err := config.Read(file)
	if err != nil {
		t.Fatalf("%v\n%s", err, file)
	}
	files, err := jobfactory.Manifests(content.Groups)
	if err != nil {
		t.Fatalf("%v\n%s", err, file)
	}
	found := objects{}
	for _, file := range files {
		for _, object := range file.Objects {
			text, err := jobfactory.Marshal(object)
			if err != nil {
				t.Fatal(err)
			}
			if err := found.add(text); err != nil {
				t.Fatal(err)
			}
		}
	}
	return found
}

// release has the image that `runnerctl render` writes without the key images, and the
// credentials sets that groups name.
var release = object{
	"image":       object{"repository": "bitbucket-runner-scaler", "tag": "latest"},
	"credentials": object{"default": object{}, "team-a": object{}, "team-b": object{}, "b2": object{}},
}

// with returns values with the image of the release.
func with(t *testing.T, text string) object {
	t.Helper()
	values := object{"image": release["image"]}
	maps.Copy(values, parsed(t, text))
	return values
}

// withoutGroups are the objects of the control plane.
var withoutGroups = sync.OnceValues(func() (objects, error) {
	plane, _, err := charted(controlPlane, release)
	return plane, err
})

// chartedGroups returns the objects that the chart adds for groups.
func chartedGroups(t *testing.T, values object) objects {
	t.Helper()
	all, _, err := charted(controlPlane, values)
	if err != nil {
		t.Fatalf("%v\n%v", err, values)
	}
	plane, err := withoutGroups()
	if err != nil {
		t.Fatal(err)
	}
	for key, fields := range plane {
		if diff := cmp.Diff(fields, all[key]); diff != "" {
			t.Errorf("%s differs because of the groups:\n%s", key, diff)
		}
		delete(all, key)
	}
	return all
}

// asRendered returns objects in their types. What the chart adds is taken away, if it is
// as it should be, and the trigger's metadata have the scaler's spelling.
func asRendered(t *testing.T, from objects, chart bool) map[string]metav1.Object {
	t.Helper()
	all := map[string]metav1.Object{}
	for key, fields := range from {
		var one metav1.Object
		switch kind := fields["kind"]; kind {
		case "Namespace":
			one = into[corev1.Namespace](t, fields)
		case "ServiceAccount":
			one = into[corev1.ServiceAccount](t, fields)
		case "TriggerAuthentication":
			one = into[kedav1alpha1.TriggerAuthentication](t, fields)
		case "ScaledJob":
			job := into[kedav1alpha1.ScaledJob](t, fields)
			trigger := &job.Spec.Triggers[0]
			group, err := runnergroup.Parse(trigger.Metadata)
			if err != nil {
				t.Errorf("%s: %v", key, err)
			}
			read := group.Metadata()
			read["scalerAddress"], read["enableTLS"] = trigger.Metadata["scalerAddress"], trigger.Metadata["enableTLS"]
			trigger.Metadata = read
			one = job
		default:
			t.Fatalf("%s: %v is no kind of a group", key, kind)
		}
		if chart {
			labels := one.GetLabels()
			for label, value := range addedLabels {
				if !strings.HasPrefix(labels[label], value) || labels[label] == "" {
					t.Errorf("%s: label %s is %q", key, label, labels[label])
				}
				delete(labels, label)
			}
			kept := fields["kind"] == "Namespace" || fields["kind"] == "ServiceAccount"
			if got := one.GetAnnotations()["helm.sh/resource-policy"]; (got == "keep") != kept {
				t.Errorf("%s: resource policy %q", key, got)
			}
			one.SetAnnotations(nil)
		}
		all[key] = one
	}
	return all
}

// compare compares what chart and `runnerctl render` give for the groups of a
// configuration.
func compare(t *testing.T, file []byte) {
	t.Helper()
	want := asRendered(t, renderedGroups(t, withoutConstants(t, file)), false)
	got := asRendered(t, chartedGroups(t, listed(t, file)), true)
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("rendered -, chart +:\n%s\n%s", diff, file)
	}
}

var block = regexp.MustCompile("(?ms)^```yaml\n(.*?)^```")

// documented returns the configurations in the repository by their places.
func documented(t *testing.T) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	for _, pattern := range []string{"../../jobfactory/config/testdata/*.yaml", "../examples/runners_config.yaml", "../examples/*/*.yaml", "../overlays/*/runners_config.yaml", "../chart/ci/groups.yaml"} {
		paths, err := filepath.Glob(pattern)
		if err != nil || len(paths) == 0 {
			t.Fatalf("%s: %v", pattern, err)
		}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if filepath.Base(path) != "older-form.yaml" { // not YAML
				all[path] = text
			}
		}
	}
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatalf("pages: %v", err)
	}
	for _, path := range append(pages, "../../README.md", "../README.md") {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i, match := range block.FindAllSubmatch(text, -1) {
			if strings.Contains("\n"+string(match[1]), "\ngroups:") {
				all[fmt.Sprintf("%s, block %d", path, i)] = match[1]
			}
		}
	}
	return all
}

func TestTheChartGivesWhatRenderGives(t *testing.T) {
	all := documented(t)
	for _, path := range slices.Sorted(maps.Keys(all)) {
		t.Run(path, func(t *testing.T) { compare(t, all[path]) })
	}
	if len(all) < 10 {
		t.Errorf("%d configurations", len(all))
	}
}

// patches are merged into a pod template in the ways that a strategic merge has.
var patches = []string{
	`{spec: {initContainers: [{name: first, image: a}, {name: second, image: b}]}}`,
	`{spec: {initContainers: [{name: docker, env: [{name: A, value: x}]}, {name: between, image: a}, {name: sidecar, resources: {limits: {memory: 96Mi}}}]}}`,
	`{spec: {containers: [{name: runner, env: [{name: Z, value: z}, {name: HTTP_PROXY, value: other}, {name: SIDECAR_DIR, value: /opt/bitbucket-runner-scaler}]}]}}`,
	`{spec: {containers: [{name: runner, env: [{name: http_proxy, "$patch": delete}], ports: [{containerPort: 80}, {containerPort: 81, name: b}]}]}}`,
	`{spec: {containers: [{name: runner, ports: [{containerPort: 80, protocol: TCP}, {containerPort: 80, protocol: UDP}, {containerPort: 81}]}], initContainers: [{name: more, image: a, ports: [{containerPort: 80, protocol: UDP}, {containerPort: 80}]}]}}`,
	`{spec: {containers: [{name: runner, resources: {"$patch": replace, limits: {cpu: 2}}}]}}`,
	`{spec: {containers: [{name: runner, resources: null, imagePullPolicy: Never}]}}`,
	`{spec: {tolerations: [{operator: Exists}], nodeSelector: {pool: null, disk: fast}}}`,
	`{spec: {tolerations: null, affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: a, operator: Exists}]}]}}}}}`,
	`{spec: {volumes: [{name: cache, persistentVolumeClaim: null, emptyDir: {medium: Memory}}, {name: more, configMap: {name: more}}]}}`,
	`{spec: {topologySpreadConstraints: [{topologyKey: zone, maxSkew: 1, whenUnsatisfiable: ScheduleAnyway}], hostAliases: [{ip: 10.0.0.1, hostnames: [a, b]}]}}`,
	`{metadata: {labels: {team: a, other: null}, annotations: {"example.com/a": "1"}}, spec: {securityContext: {fsGroup: 1}}}`,
	`{spec: {terminationGracePeriodSeconds: 7800, imagePullSecrets: [{name: other}, {name: mirror}], dnsConfig: {options: [{name: ndots, value: "1"}]}}}`,
}

func TestPatchesAreMergedAsByRender(t *testing.T) {
	for _, patch := range patches {
		compare(t, []byte(`groups: [{name: a, workspace: acme, labels: [a], node_selector: {pool: x}, tolerations: [{key: a, operator: Exists}],
  image_pull_secrets: [mirror, third], env: [{name: MAVEN_OPTS, value: x}], proxy: {http: "http://proxy:3128"}, volumes: [{name: cache, persistentVolumeClaim: {claimName: a}}], volume_mounts: [{name: cache, mountPath: /cache}],
  pod_template: `+patch+`}]`))
	}
}

func TestNumbersAndAmountsAreThoseOfRender(t *testing.T) {
	compare(t, []byte(`groups: [{name: a, workspace: acme, labels: [a], parameters: {scale_down_threshold: 0.00001, max_age: 2592000}, resources: {requests: {memory: 8Gi, cpu: 1500m}}},
  {name: b, workspace: acme, labels: [b], resources: {limits: {memory: 512Mi, cpu: 0.25}}}, {name: c, workspace: acme, labels: [c], resources: {requests: {memory: 5e9}, limits: {example.com/gpu: 1}}}]`))
}

func TestNumbersWithLeadingZerosAreDecimal(t *testing.T) {
	compare(t, []byte(`groups: [{name: a, workspace: acme, labels: [a], strategy: fixed, parameters: {count: "010"}}, {name: b, workspace: acme, labels: [b], strategy: fixed, parameters: {count: "09"}},
  {name: c, workspace: acme, labels: [c], parameters: {min: "09", max: "020", spare: "08"}}, {name: d, workspace: acme, labels: [d], type: manual, parameters: {runners_count: "011"}}, {name: e, workspace: acme, labels: [e], strategy: queuedSteps, parameters: {min: "00", max: "09"}}]`))
}

func TestTheOlderModesAreRead(t *testing.T) {
	compare(t, []byte(`groups: [{name: a, workspace: acme, labels: [a], type: manual}, {name: b, workspace: acme, labels: [b], strategy: manual},
  {name: c, workspace: acme, labels: [c], type: autoscaling, nodeSelector: {pool: a}, parameters: {scaleUpThreshold: 0.75}}]`))
}

func TestTheChartGivesWhatRenderGivesForGeneratedGroups(t *testing.T) {
	unused := map[string]bool{}
	definitions := valuesIn(t, filepath.Join(chartDir, "values.schema.json"))["definitions"].(object)
	for key := range definitions["runners.group"].(object)["properties"].(object) {
		unused[jobfactory.SnakeCase(key)] = true
	}
	for seed := range uint64(generated) {
		file := configtest.Good(seed).YAML
		compare(t, file)
		for _, group := range listed(t, file)["groups"].([]any) {
			for key, value := range group.(object) {
				if value != nil {
					delete(unused, jobfactory.SnakeCase(key))
				}
			}
		}
	}
	if len(unused) > 0 {
		t.Errorf("no group has %q", slices.Sorted(maps.Keys(unused)))
	}
}
