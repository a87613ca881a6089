package config_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bitbucket-runner-scaler/jobfactory"
	"bitbucket-runner-scaler/jobfactory/config"
)

// good is a configuration with one group, to which tests append keys.
const good = "groups:\n- name: a\n  workspace: acme\n  labels: [x]\n"

func TestABadConfigurationGetsAllItsFaults(t *testing.T) {
	for name, test := range map[string]struct {
		file string
		want []string
	}{
		"nothing":                   {"", []string{"file: empty, want groups, a list of at least one group"}},
		"only comments":             {"# nothing\n", []string{`groups`}},
		"no YAML":                   {"groups: [", []string{"not YAML"}},
		"a list":                    {"- a\n", []string{`line 1: file: "a list", want a mapping`}},
		"no groups":                 {"groups: []\n", []string{"groups: missing, want a list of at least one group"}},
		"two documents":             {good + "---\n" + good, []string{"more than one YAML document"}},
		"unknown top key":           {good + "group: 1\n", []string{`line 5: file: "group", want one of the keys groups, config, constants`}},
		"unknown key of a group":    {good + "  label: x\n", []string{`line 5: groups[0]: "label", want one of the keys name`}},
		"misspelt key of a group":   {good + "  lables: [x]\n", []string{`line 5: groups[0]: "lables", want one of the keys name`, `; did you mean labels?`}},
		"unknown parameter":         {good + "  parameters: {minimum: 1}\n", []string{`groups[0].parameters: "minimum", want one of the keys min`}},
		"unknown constant":          {good + "constants: {x: 1}\n", []string{`constants: "x", want one of the keys`}},
		"key given twice":           {good + "  name: b\n", []string{`"name", want each key once`}},
		"everything missing":        {"groups:\n- {}\n", []string{"groups[0].name: missing", "groups[0].workspace: missing", "groups[0].labels: missing"}},
		"nulls":                     {"groups:\n- name: ~\n  workspace:\n  labels: null\n", []string{"groups[0].name: missing", "groups[0].workspace: missing", "groups[0].labels: missing"}},
		"UUID without quotes":       {"groups:\n- name: a\n  labels: [x]\n  workspace: {6321d246-a40a-4776-8497-372a41771e65}\n", []string{`line 4: groups[0].workspace: "a mapping", want one value; a UUID's braces need quotes`}},
		"label with a comma":        {"groups:\n- name: a\n  workspace: acme\n  labels: ['x,y']\n", []string{`groups[0].labels[0]: "x,y", want one item, without a comma`}},
		"labels as text":            {"groups:\n- name: a\n  workspace: acme\n  labels: x\n", []string{`groups[0].labels: "x", want a list`}},
		"reserved namespace":        {good + "  namespace: bitbucket-runner-scaler\n", []string{`line 5: groups[0].namespace: "bitbucket-runner-scaler", want another namespace`}},
		"Kubernetes' own namespace": {good + "  namespace: kube-system\n", []string{`groups[0].namespace: "kube-system", want another namespace: this one is Kubernetes' own`}},
		"faults of all kinds":       {good + "  label: x\n  docker: perhaps\n  images: {runner: 'a b'}\n  pod_template: {spec: {hostPID: true}}\n", []string{`"label"`, `groups[0].docker:`, `groups[0].images.runner:`, `groups[0].pod_template.spec.hostPID:`}},
		"reserved constant":         {good + "constants: {default_runner_kubernetes_namespace: bitbucket-runner-scaler}\n", []string{`line 5: constants.default_runner_kubernetes_namespace: "bitbucket-runner-scaler", want another namespace`}},
		"cool-down constant":        {good + "constants: {runner_cool_down_period: 5 m}\n", []string{`line 5: constants.runner_cool_down_period: "5 m", want a duration`}},
		"name of no letters":        {"groups:\n- name: '---'\n  workspace: acme\n  labels: [x]\n", []string{`groups[0].name: "---", want a text with 1 to 57 letters and digits`}},
		"name too long":             {"groups:\n- name: " + strings.Repeat("a", 58) + "\n  workspace: acme\n  labels: [x]\n", []string{`groups[0].name`}},
		"names that become equal":   {good + "- name: A!\n  workspace: acme\n  labels: [y]\n", []string{`line 5: groups[1].name: "a", want another name: in namespace bitbucket-runner it is already the name of groups[0]`}},
		"a window at its line":      {good + "  schedules:\n  - {start: 0 7 * * *, end: 0 8 * * *, min: 1}\n  - start: 0 7 * * *\n    end: 8 Uhr\n    min: 2\n", []string{`line 8: groups[0].schedules[1].end: "8 Uhr", want a cron expression`}},
		"min over max, bad number":  {good + "  parameters: {min: 5, max: 3, spare: x}\n", []string{`line 5: groups[0].parameters.min: "5", want at most max, which is 3`, `groups[0].parameters.spare: "x", want a whole number`}},
		"strategy":                  {good + "  strategy: guess\n", []string{`line 5: groups[0].strategy: "guess", want percentageRunnersIdle, queuedSteps or fixed`}},
		"fixed without count":       {good + "  strategy: fixed\n", []string{"groups[0].parameters.count: missing"}},
		"architecture":              {good + "  architecture: riscv\n", []string{`groups[0].architecture: "riscv", want amd64 or arm64`}},
		"architecture contradicted": {good + "  node_selector: {kubernetes.io/arch: arm64}\n", []string{`want the group's architecture, which is amd64`}},
		"amount":                    {good + "  resources: {requests: {memory: lots}}\n", []string{`groups[0].resources.requests.memory: "lots", want an amount`}},
		"negative amount":           {good + "  resources: {limits: {cpu: -1}}\n", []string{`groups[0].resources.limits.cpu: "-1", want an amount that is not negative`}},
		"request over limit":        {good + "  resources: {requests: {cpu: 2}, limits: {cpu: 1}}\n", []string{`groups[0].resources.requests.cpu: "2", want at most the limit, which is 1`}},
		"duration":                  {good + "  polling_interval: often\n", []string{`groups[0].polling_interval: "often", want a duration`}},
		"docker":                    {good + "  docker: perhaps\n", []string{`groups[0].docker: "perhaps", want true or false`}},
		"image":                     {good + "  images: {runner: 'a b'}\n", []string{`groups[0].images.runner: "a b", want an image reference`}},
		"toleration":                {good + "  tolerations: [{key: a, effect: Never}, {kye: b}]\n", []string{`groups[0].tolerations[1].kye: unknown key`}},
		"toleration's seconds":      {good + "  tolerations: [{key: a, tolerationSeconds: soon}]\n", []string{`groups[0].tolerations[0].tolerationSeconds: "a string", want a value of type int64`}},
		"no entrypoint":             {good + "  entrypoint: []\n", []string{`groups[0].entrypoint: "", want a command`}},
		"too many groups":           {"groups: [" + strings.Repeat("{},", 1001) + "]\n", []string{`"a list", want a list of at most 1000 items`}},
		"faults of two groups":      {"groups:\n- name: a\n  labels: [x]\n- name: b\n  workspace: acme\n", []string{"line 2: groups[0].workspace: missing", "line 4: groups[1].labels: missing"}},
	} {
		t.Run(name, func(t *testing.T) {
			file, err := config.Read([]byte(test.file))
			if err == nil {
				t.Fatalf("accepted: %+v", file)
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("not reported: %s\ngot: %v", want, err)
				}
			}
		})
	}
}

func TestConsequencesOfAFaultAreNotReported(t *testing.T) {
	for name, test := range map[string]struct{ file, want string }{
		"item of a list":     {"groups:\n- name: a\n  workspace: acme\n  labels: [{a: b}]\n", `line 4: groups[0].labels[0]: "a mapping", want one value; a UUID's braces need quotes: "{…}"`},
		"list":               {"groups:\n- name: a\n  workspace: acme\n  labels: x\n", `line 4: groups[0].labels: "x", want a list, such as [x]`},
		"volume of a mount":  {good + "  volumes: [{name: a, emptyDri: {}}]\n  volume_mounts: [{name: a, mountPath: /a}]\n", `line 5: groups[0].volumes[0].emptyDri: unknown key, want those of Kubernetes`},
		"volumes of a mount": {good + "  volumes: x\n  volume_mounts: [{name: a, mountPath: /a}]\n", `line 5: groups[0].volumes: "x", want a list, such as [x]`},
		"long value":         {good + "  strategy: " + strings.Repeat("x", 100) + "\n", `line 5: groups[0].strategy: "` + strings.Repeat("x", 64) + `...", want percentageRunnersIdle, queuedSteps or fixed`},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := config.Read([]byte(test.file)); err == nil || err.Error() != test.want {
				t.Errorf("got %v\nwant %s", err, test.want)
			}
		})
	}
}

func TestScalarsStayAsWritten(t *testing.T) {
	file, err := config.Read([]byte("groups:\n- name: a\n  workspace: 0123\n  labels: [1.10, true]\n"))
	if err != nil {
		t.Fatal(err)
	}
	got := file.Groups[0].Group
	if got.Workspace != "0123" || !cmp.Equal(got.Labels, []string{"1.10", "true"}) {
		t.Errorf("workspace %q, labels %q", got.Workspace, got.Labels)
	}
}

func TestAnAliasIsRead(t *testing.T) {
	file, err := config.Read([]byte(good + "  resources: &r {limits: {memory: 1Gi}}\n- {name: b, workspace: acme, labels: [y], resources: *r}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(file.Groups[0].Resources, file.Groups[1].Resources); diff != "" {
		t.Errorf("first -, second +:\n%s", diff)
	}
}

func TestConstantsWithoutEffectAreNoted(t *testing.T) {
	file, err := config.Read([]byte(good + "constants: {runner_api_polling_interval: 600, runner_cool_down_period: 60}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if len(file.Notes) != 1 || !strings.Contains(file.Notes[0], "constants.runner_api_polling_interval has no effect") {
		t.Errorf("notes %q, want one, of runner_api_polling_interval", file.Notes)
	}
	if got := file.Groups[0].Group.Rules.CoolDown.Seconds(); got != 60 {
		t.Errorf("cool-down of %v s, want 60", got)
	}
}

// Every file that is accepted can be rendered, with the same result each time.
func FuzzRead(f *testing.F) {
	seeds, err := filepath.Glob("testdata/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range seeds {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(good + "  resources: &r {limits: {memory: 1e999999999}}\n  docker_resources: *r\n"))
	f.Add([]byte("groups: &g [*g]\n"))
	f.Add([]byte(older + "  parameters: {scaleUpThreshold: 2}\n  constants: {x: 1}\n"))
	f.Add([]byte(good + "  pod_template: {spec: {containers: [{name: runner, $patch: delete}], $setElementOrder/containers: [{name: 1}]}}\n"))
	f.Add([]byte(good + "  pod_template: &a {spec: *a}\n  env: [{name: A, valueFrom: ~}]\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := config.Read(data)
		if err != nil {
			if err.Error() == "" || len(file.Groups)+len(file.Notes) > 0 {
				t.Errorf("refused with a result, or without a reason: %v", err)
			}
			if _, again := config.Read(data); again == nil || again.Error() != err.Error() {
				t.Errorf("%v, then %v", err, again)
			}
			return
		}
		files, err := jobfactory.Manifests(file.Groups)
		if err != nil {
			t.Fatalf("accepted, but not rendered: %v", err)
		}
		for _, manifests := range files {
			first, err := jobfactory.Marshal(manifests.Objects...)
			if err != nil {
				t.Fatal(err)
			}
			second, err := jobfactory.Marshal(manifests.Objects...)
			if err != nil || !bytes.Equal(first, second) {
				t.Fatalf("rendered differently the second time: %v", err)
			}
		}
	})
}
