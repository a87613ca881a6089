package config_test

import (
	"strings"
	"testing"

	"bitbucket-runner-scaler/jobfactory/config"
)

func TestKeysOfThePodAreChecked(t *testing.T) {
	for name, test := range map[string]struct{ yaml, want string }{
		"reserved variable":     {"env: [{name: OAUTH_CLIENT_SECRET, value: x}]", `env[0].name: "OAUTH_CLIENT_SECRET", want another name`},
		"variable twice":        {"env: [{name: A, value: x}, {name: A, value: y}]", `env[1].name: "A", want each name once`},
		"reserved volume":       {"volumes: [{name: token, emptyDir: {}}]", `volumes[0].name: "token", want another name`},
		"mount of no volume":    {"volume_mounts: [{name: a, mountPath: /a}]", `volume_mounts[0].name: "a", want the name of one of the group's volumes`},
		"mount at the link":     {"volumes: [{name: a, emptyDir: {}}]\n  volume_mounts: [{name: a, mountPath: /run/x}]", `volume_mounts[0].mountPath: "/run/x", want a path that does not overlap`},
		"mount over others":     {"volumes: [{name: a, emptyDir: {}}]\n  docker_volume_mounts: [{name: a, mountPath: /}]", `docker_volume_mounts[0].mountPath: "/", want`},
		"pull policy":           {"image_pull_policy: Sometimes", `image_pull_policy: "Sometimes", want Always`},
		"mirror as a URL":       {"image_mirror: https://mirror", `image_mirror: "https://mirror", want a registry`},
		"proxy":                 {"proxy: {http: proxy}", `proxy.http: "proxy", want a URL`},
		"priority class":        {"priority_class: A_B", `priority_class: "A_B", want the name of a PriorityClass`},
		"affinity":              {"affinity: {nodeAffinty: {}}", "affinity.nodeAffinty: unknown key"},
		"affinity as a list":    {"affinity: [a]", `affinity: "a list", want a mapping`},
		"patch of no mapping":   {"pod_template: 1", `pod_template: "1", want a mapping`},
		"patch of itself":       {"pod_template: &a {b: *a}", "pod_template"},
		"several at once":       {"priority_class: A_B\n  image_pull_secrets: [C_D]", `image_pull_secrets[0]: "C_D", want the name of a Secret`},
		"keys that are numbers": {"env: [{1: 2}]", "env[0]"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := config.Read([]byte(good + "  " + test.yaml + "\n"))
			if err == nil || !strings.Contains(err.Error(), "groups[0]."+test.want) {
				t.Errorf("got %v\nwant groups[0].%s", err, test.want)
			}
		})
	}
}

func TestCredentialsOfAProxyAreNotShown(t *testing.T) {
	_, err := config.Read([]byte(good + "  proxy: {http: 'http://user:hunter2@proxy:3128'}\n"))
	if err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "groups[0].proxy.http: has credentials") {
		t.Errorf("got %v, want a fault without the credentials", err)
	}
}

func TestAFaultOfAPatchHasTheKeysLine(t *testing.T) {
	_, err := config.Read([]byte(good + "  pod_template: {spec: {restartPolicy: OnFailure}}\n"))
	if want := "line 5: groups[0].pod_template.spec.restartPolicy: \"OnFailure\", want Never"; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got %v\nwant %s", err, want)
	}
}
