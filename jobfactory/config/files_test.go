package config_test

import (
	"strings"
	"testing"

	"bitbucket-runner-scaler/jobfactory/config"
)

func TestMergeKeysAreMerged(t *testing.T) {
	file, err := config.Read([]byte("x-base: &base {workspace: acme, labels: [x], parameters: {min: 2}}\ngroups:\n- {<<: *base, name: a}\n- <<: [{namespace: first}, *base, {namespace: last}]\n  name: b\n  parameters: {max: 3}\n"))
	if err != nil {
		t.Fatal(err)
	}
	a, b := file.Groups[0], file.Groups[1]
	if a.Group.Workspace != "acme" || a.Group.Rules.Min != 2 || b.Namespace != "first" || b.Group.Rules.Min != 1 || b.Group.Rules.Max != 3 {
		t.Errorf("got %+v and %+v", a, b)
	}
	if notes := strings.Join(file.Notes, "\n"); !strings.Contains(notes, "x-base has no effect") {
		t.Errorf("no note about a key that is none of the file's: %q", notes)
	}
	for _, endless := range []string{"groups:\n- &a {<<: *a, name: x}\n", "groups:\n- &a {<<: [*a, *a, *a, *a], name: x}\n", "groups:\n- &a {<<: [" + strings.Repeat("*a, ", 900) + "*a]}\n"} {
		if _, err := config.Read([]byte(endless)); err == nil {
			t.Error("a group that is merged into itself is accepted")
		}
	}
}

func TestResourcesAreFilledUpAsInAtlassiansTool(t *testing.T) {
	for resources, want := range map[string]string{
		"":                                "4Gi 1 4Gi 1",
		"requests: {memory: 1Gi}":         "1Gi 1 4Gi 1",
		"limits: {memory: 2Gi}":           "2Gi 1 2Gi 1",
		"requests: {memory: 8Gi, cpu: 2}": "8Gi 2 8Gi 2",
		"limits: {cpu: 500m}":             "4Gi 500m 4Gi 500m",
	} {
		file, err := config.Read([]byte(good + "  resources: {" + resources + "}\n"))
		if err != nil {
			t.Fatal(err)
		}
		r := file.Groups[0].Resources
		if got := strings.Join([]string{r.Requests.Memory().String(), r.Requests.Cpu().String(), r.Limits.Memory().String(), r.Limits.Cpu().String()}, " "); got != want {
			t.Errorf("%s: %s, want %s", resources, got, want)
		}
		if d := file.Groups[0].DockerResources; len(d.Limits)+len(d.Requests) > 0 {
			t.Errorf("the daemon gets %v", d)
		}
	}
}

func TestAConfigurationInAConfigMapIsRead(t *testing.T) {
	const start = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata:\n  other: x\n  runners_config.yaml: |\n    groups:\n    - name: a\n      workspace: acme\n"
	file, err := config.Read([]byte("kind: Namespace\n---\n" + start + "      labels: [self.hosted, linux, x]\n---\n# the end\n"))
	if err != nil || len(file.Groups) != 1 || len(file.Groups[0].Group.Labels) != 1 || !strings.Contains(strings.Join(file.Notes, ""), "runners_config.yaml of a ConfigMap") {
		t.Errorf("got %+v, %v", file, err)
	}
	for text, want := range map[string]string{
		start + "      label: [x]\n":                                       "line 10: groups[0]: \"label\", want one of the keys",
		start + "      labels: [\n":                                        "not YAML",
		start + "      labels: [x]\n---\n" + start + "      labels: [x]\n": "2 ConfigMaps or keys of one have a configuration, want one",
	} {
		if _, err := config.Read([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestSmallSlipsAreNamed(t *testing.T) {
	for text, want := range map[string]string{
		"":                                   "file: empty, want groups",
		"# none\n":                           "file: empty, want groups",
		"image: a\nreplicas: 2\n":            "groups: missing, want a list of at least one group; the file has image, replicas",
		strings.Replace(good, "[x]", "x", 1): `groups[0].labels: "x", want a list, such as [x]`,
		strings.Replace(good, "[x]", "[a, b, c, d, e, f, g, h, i, j]", 1): "want at most 9 custom labels, of which there are 10",
		strings.Replace(good, "[x]", "[self.hosted, linux]", 1):           `groups[0].labels: "self.hosted,linux", want a custom label too`,
		good + "  resources: {limits: {memory: 1e999999999}}\n":           "want an amount such as 2Gi or 1000m",
		good + "---\ngroups: []\n":                                        "more than one YAML document",
	} {
		if _, err := config.Read([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if _, err := config.Read([]byte(good + "---\n# the end\n")); err != nil {
		t.Errorf("a comment after the last ---: %v", err)
	}
}
