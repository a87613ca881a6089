package jobtemplate_test

import (
	"strings"
	"testing"

	"bitbucket-runner-scaler/jobfactory"
	"bitbucket-runner-scaler/jobfactory/config"
	"bitbucket-runner-scaler/jobfactory/config/jobtemplate"
)

// rendered returns the pod template of a group with a job template, and the notes.
func rendered(t *testing.T, file string) (pod, notes string) {
	t.Helper()
	template, err := jobtemplate.Read([]byte(file))
	if err != nil {
		t.Fatal(err)
	}
	content, err := config.ReadWithTemplate([]byte(good), template)
	if err != nil {
		t.Fatal(err)
	}
	data, err := jobfactory.Marshal(scaledJob(t, content.Groups[0]).Spec.JobTargetRef.Template)
	if err != nil {
		t.Fatal(err)
	}
	return string(data), strings.Join(content.Notes, "\n")
}

// statements has everything that people write into templates of the autoscaler.
const statements = `{# The template
   of our Jobs: {% if old %} -#}
apiVersion: batch/v1
kind: 'Job'
spec:
  template:
    metadata:
      labels:
        <% runner_label %>: a
        <%other_label%>: b
        team: builds {# ours #}
        {% if a -%}
        size: large
        {%- elif b %}
        size: medium
        {% else %}
        size: small
        {% endif %}
        {% if c %}cost: "1"{% endif %}
        class: {% if d %}one{% else %}two{% endif %}
    spec:
{%- if
     node_selector
%}
      nodeSelector:
        {%- for key, value in node_selector.items() %}
        <% key %>: <% value %>
        {%- endfor %}
        disk: ssd
{%- endif %}
      {% set unused = 1 %}
      containers:
      - name: runner
        image: example/runner:1
        envFrom:
        - configMapRef: {name: builds}
        - secretRef: {name: runner-oauth-credentials-<%runner_uuid%>}
        - secretRef: {name: "other-<%runner_uuid%>"}
        env:
        {% for name in names %}
        - name: <% name %>
          value: x
        {% endfor %}
        {% if repository_uuid %}
        - name: REPOSITORY_UUID
          value: "{<%repository_uuid%>}"
        {% endif %}
        - {name: MAVEN_OPTS, value: {{ .Values.opts }}}
`

func TestStatementsOfATemplateAreReadOver(t *testing.T) {
	pod, notes := rendered(t, statements)
	for _, want := range []string{"team: builds", "size: large", "cost: \"1\"", "disk: ssd", "example/runner:1", "configMapRef"} {
		if !strings.Contains(pod, want) {
			t.Errorf("not carried over: %s\n%s", want, pod)
		}
	}
	for _, refused := range []string{"medium", "small", "filled-in", "class:", "secretRef", "MAVEN_OPTS", "{%"} {
		if strings.Contains(pod, refused) {
			t.Errorf("carried over: %s\n%s", refused, pod)
		}
	}
	for _, want := range []string{
		"line 12: {% if a %} is not evaluated: what it contains is carried over", "line 14: {% elif b %} is not evaluated: what follows it is not carried over",
		"line 31: {% set unused = 1 %} is not evaluated", "line 48: {{ .Values.opts }} is a value of Helm",
		"labels.class is not carried over", "labels.<%…%> is not carried over", "envFrom[other-<%…%>] is not carried over",
	} {
		if !strings.Contains(notes, want) {
			t.Errorf("no note %q in:\n%s", want, notes)
		}
	}
	for _, refused := range []string{"REPOSITORY_UUID", "node_selector", "runner-oauth-credentials", "<nil>", "old"} {
		if strings.Contains(notes, refused) {
			t.Errorf("a note about %s:\n%s", refused, notes)
		}
	}
}

func TestStatementsOfHelmAreReportedAsSuch(t *testing.T) {
	_, err := jobtemplate.Read([]byte("kind: Job\nspec:\n  template:\n  {{- if .Values.x }}\n    spec: {}\n  {{- end }}\n"))
	if err == nil || !strings.Contains(err.Error(), "line 4: {{- if .Values.x }} is a statement of Helm, want what `helm template` prints") {
		t.Errorf("got %v", err)
	}
}

// daemonTemplate is a template whose daemon has the container's fields.
func daemonTemplate(list, fields string) string {
	return "kind: Job\nspec: {template: {spec: {volumes: [{name: disk, emptyDir: {sizeLimit: 60Gi}}, {name: etc, configMap: {name: daemon-json}}], containers: [{name: runner}" +
		map[bool]string{true: ", {name: dind, image: 'docker:27-dind', " + fields + "}]", false: "], initContainers: [{name: dind, image: 'docker:27-dind', restartPolicy: Always, " + fields + "}]"}[list == "containers"] + "}}}\n"
}

func TestTheDaemonIsCarriedOverWhereverItIs(t *testing.T) {
	const fields = "resources: {limits: {memory: 6Gi}}, env: [{name: DOCKER_RAMDISK, value: 'true'}], envFrom: [{configMapRef: {name: proxies}}], " +
		"volumeMounts: [{name: disk, mountPath: /var/lib/docker}, {name: etc, mountPath: /etc/docker}], args: [--mtu=1300, -H, 'unix:///var/run/docker.sock', --registry-mirror, 'https://m']"
	for _, list := range []string{"containers", "initContainers"} {
		pod, notes := rendered(t, daemonTemplate(list, fields))
		for _, want := range []string{
			"docker:27-dind", "memory: 6Gi", "DOCKER_RAMDISK", "name: proxies", "mountPath: /var/lib/docker\n", "mountPath: /etc/docker", "sizeLimit: 60Gi",
			"- dockerd\n    - --host=unix:///var/run/docker.sock\n    - --mtu=1300\n    - --registry-mirror\n    - https://m\n", "privileged: true",
		} {
			if !strings.Contains(pod, want) {
				t.Errorf("%s: not carried over: %s\n%s", list, want, pod)
			}
		}
		if notes != "" {
			t.Errorf("%s: notes about what is carried over:\n%s", list, notes)
		}
	}
}

func TestWhatTheDaemonMayNotListenOnIsNoted(t *testing.T) {
	for command, want := range map[string]string{
		"args: ['--host=tcp://0.0.0.0:2375', --mtu=1300]":                 ".args[tcp://0.0.0.0:2375] is not carried over: the Docker daemon only listens on unix",
		"command: [dockerd, -H, 'tcp://:2376', --tlsverify, --mtu=1300]":  ".args[--tlsverify] is not carried over",
		"command: [sh, -c, 'dockerd --mtu=1300 --host=tcp://:2375']":      ".command is not carried over: `sidecar exec`",
		"command: [dockerd-entrypoint.sh, dockerd], args: ['--mtu=1300']": "",
	} {
		pod, notes := rendered(t, daemonTemplate("containers", command))
		if !strings.Contains(notes, want) || want == "" && notes != "" || strings.Contains(pod, "tcp:") {
			t.Errorf("%s: notes %q, want %q, and no host on the network in\n%s", command, notes, want, pod)
		}
		if carried := strings.Contains(pod, "--mtu=1300"); carried == strings.Contains(command, "sh, -c") {
			t.Errorf("%s: options carried over: %v", command, carried)
		}
	}
}
