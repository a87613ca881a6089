package deploytest

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
)

// deployed renders the chart and returns its objects with the scaler's pod.
func deployed(t *testing.T, values string) (objects, corev1.PodTemplateSpec) {
	t.Helper()
	all, _, err := charted(controlPlane, parsed(t, values))
	if err != nil {
		t.Fatal(err)
	}
	typed(t, all)
	return all, as[appsv1.Deployment](t, all, "Deployment "+controlPlane+"/"+name).Spec.Template
}

func TestTheUsualValuesReachThePod(t *testing.T) {
	_, pod := deployed(t, `
image: {repository: registry.example.com/scaler, tag: v1, digest: "sha256:`+strings.Repeat("0a", 32)+`"}
imagePullSecrets: [{name: registry}]
commonLabels: {team: platform, cost: shared}
podLabels: {cost: own}
podAnnotations: {note: "1"}
affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: pool, operator: Exists}]}]}}}
topologySpreadConstraints:
  - {maxSkew: 2, topologyKey: rack, whenUnsatisfiable: DoNotSchedule}
  - {maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {mine: "1"}}}
priorityClassName: high
podSecurityContext: {runAsUser: null}
extraVolumes: [{name: more, emptyDir: {}}]
extraVolumeMounts: [{name: more, mountPath: /more}]
extraArgs: [--poll-interval=2m, --dry-run]
`)
	container := pod.Spec.Containers[0]
	if want := "registry.example.com/scaler@sha256:" + strings.Repeat("0a", 32); container.Image != want {
		t.Errorf("image %s, want %s", container.Image, want)
	}
	if pod.Labels["team"] != "platform" || pod.Labels["cost"] != "own" || pod.Annotations["note"] != "1" {
		t.Errorf("labels %v, annotations %v", pod.Labels, pod.Annotations)
	}
	if pod.Spec.ImagePullSecrets[0].Name != "registry" || pod.Spec.Affinity.NodeAffinity == nil || pod.Spec.PriorityClassName != "high" {
		t.Errorf("pod %+v", pod.Spec)
	}
	spread := pod.Spec.TopologySpreadConstraints
	if len(spread) != 2 || spread[0].TopologyKey != "rack" || spread[0].LabelSelector == nil || len(spread[0].MatchLabelKeys) != 1 ||
		!cmp.Equal(spread[1].LabelSelector.MatchLabels, map[string]string{"mine": "1"}) || spread[1].MatchLabelKeys != nil {
		t.Errorf("replicas are spread by %+v", spread)
	}
	if security := pod.Spec.SecurityContext; security.RunAsUser != nil || security.RunAsNonRoot == nil || !*security.RunAsNonRoot {
		t.Errorf("security context %+v", security)
	}
	if last := container.VolumeMounts[len(container.VolumeMounts)-1]; last.MountPath != "/more" || pod.Spec.Volumes[len(pod.Spec.Volumes)-1].Name != "more" {
		t.Errorf("mounts %+v, volumes %+v", container.VolumeMounts, pod.Spec.Volumes)
	}
	if got := container.Args[len(container.Args)-2:]; !slices.Equal(got, []string{"--poll-interval=2m", "--dry-run"}) {
		t.Errorf("arguments %q", container.Args)
	}
}

func TestAServiceAccountOfOnesOwnIsBound(t *testing.T) {
	all, pod := deployed(t, "serviceAccount: {create: false, name: mine}")
	if pod.Spec.ServiceAccountName != "mine" {
		t.Errorf("the pod's account is %s", pod.Spec.ServiceAccountName)
	}
	for key := range all {
		if strings.HasPrefix(key, "ServiceAccount ") {
			t.Errorf("%s is created", key)
		}
	}
	if !can(grants(t, all), controlPlane, "mine", question{Verb: "patch", Group: "keda.sh", Resource: "scaledjobs", Namespace: runners}) {
		t.Error("it has not the scaler's rights")
	}
	if text := flat(all["ValidatingAdmissionPolicy /"+name+"-"+controlPlane]); !strings.Contains(text, controlPlane+":mine\"") {
		t.Errorf("the policy is for another account:\n%s", text)
	}
	all, _ = deployed(t, "serviceAccount: {annotations: {role: mine}}")
	if account := as[corev1.ServiceAccount](t, all, "ServiceAccount "+controlPlane+"/"+name); account.Annotations["role"] != "mine" {
		t.Errorf("annotations %v", account.Annotations)
	}
}

func TestThePodDisruptionBudgetCanBeChanged(t *testing.T) {
	all, _ := deployed(t, "podDisruptionBudget: {maxUnavailable: 50%}")
	if got := as[policyv1.PodDisruptionBudget](t, all, "PodDisruptionBudget "+controlPlane+"/"+name).Spec.MaxUnavailable.String(); got != "50%" {
		t.Errorf("%s may be evicted", got)
	}
	if all, _ = deployed(t, "podDisruptionBudget: {enabled: false}"); all["PodDisruptionBudget "+controlPlane+"/"+name] != nil {
		t.Error("it is there")
	}
}

func TestExtraObjectsAreTemplates(t *testing.T) {
	all, _ := deployed(t, `
extraObjects:
  - {apiVersion: v1, kind: ConfigMap, metadata: {name: '{{ include "scaler.fullname" . }}-more', namespace: '{{ .Release.Namespace }}'}}
  - |
    apiVersion: v1
    kind: ConfigMap
    metadata: {name: text, namespace: {{ .Release.Namespace }}}
`)
	for _, key := range []string{"ConfigMap " + controlPlane + "/" + name + "-more", "ConfigMap " + controlPlane + "/text"} {
		if all[key] == nil {
			t.Errorf("no %s", key)
		}
	}
}

func TestFlagsOfTheChartAreRefusedWithTheirValue(t *testing.T) {
	for flag, want := range map[string]string{
		"--cluster=prod": "set cluster", "--tls=off": "set tls.mode", "--service=x": "set fullnameOverride", "--webhook-listen=:1": "set webhook.enabled",
		"--ca-bundle=x": "set caBundle or existingCABundle", "--credentials-dir=x": "set credentials", "--grpc-listen=:1": "port 9090",
	} {
		_, _, err := charted(controlPlane, object{"extraArgs": []any{"--dry-run", flag}})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), strings.SplitN(flag, "=", 2)[0]) {
			t.Errorf("%s: got %v, want %s", flag, err, want)
		}
	}
}

func TestVariablesOfTheChartAreRefused(t *testing.T) {
	for variable, want := range map[string]string{
		"SCALER_TLS": "set tls.mode", "SCALER_CREDENTIALS_DIR": "set credentials", "SCALER_WEBHOOK_LISTEN": "set webhook.enabled", "POD_NAME": "pod's own", "POD_NAMESPACE": "pod's own",
	} {
		_, _, err := charted(controlPlane, object{"extraEnv": []any{object{"name": variable, "value": "x"}}})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), variable) {
			t.Errorf("%s: got %v, want %s", variable, err, want)
		}
	}
	deployed(t, "extraEnv: [{name: SCALER_POLL_INTERVAL, value: 2m}]")
}

func TestAVariableIsSetOnce(t *testing.T) {
	for variable, setting := range map[string]string{
		"HTTPS_PROXY":                 "proxy: {url: http://proxy:3128}",
		"NO_PROXY":                    "proxy: {url: http://proxy:3128}",
		"OTEL_EXPORTER_OTLP_ENDPOINT": "traces: {endpoint: http://collector:4318}",
		"OTEL_EXPORTER_OTLP_PROTOCOL": "traces: {endpoint: http://collector:4318}",
		"OTEL_EXPORTER_OTLP_HEADERS":  "traces: {headersSecret: headers}",
	} {
		extra := "extraEnv: [{name: " + variable + ", value: x}]"
		_, _, err := charted(controlPlane, parsed(t, "{"+extra+", "+setting+"}"))
		if err == nil || !strings.Contains(err.Error(), "extraEnv: "+variable) {
			t.Errorf("%s beside %s: got %v, want an error that names it", variable, setting, err)
		}
		deployed(t, extra)
	}
}

// TestHelmTestAsksTheLeader follows the call of the test's pod to the Service, and through the
// policies of the control plane.
func TestHelmTestAsksTheLeader(t *testing.T) {
	all, scaler := deployed(t, "networkPolicy: {enabled: true}")
	pod := as[corev1.Pod](t, all, "Pod "+controlPlane+"/"+name+"-test")
	container := pod.Spec.Containers[0]
	want := []string{"probe", "http://" + name + "." + controlPlane + ".svc:8080/readyz"}
	if container.Image != scaler.Spec.Containers[0].Image || !slices.Equal(container.Command, []string{"/scaler"}) || !slices.Equal(container.Args, want) || pod.Annotations["helm.sh/hook"] != "test" {
		t.Errorf("%s %q %q, annotations %v", container.Image, container.Command, container.Args, pod.Annotations)
	}
	service := as[corev1.Service](t, all, "Service "+controlPlane+"/"+name).Spec
	if service.Selector["bitbucket-runner-scaler/role"] != "leader" || selects(service.Selector, pod.Labels) {
		t.Errorf("the Service selects %v", service.Selector)
	}
	to := as[networkingv1.NetworkPolicy](t, all, "NetworkPolicy "+controlPlane+"/"+name+"-test").Spec
	from := as[networkingv1.NetworkPolicy](t, all, "NetworkPolicy "+controlPlane+"/"+name+"-test-egress").Spec
	if !selects(to.PodSelector.MatchLabels, scaler.Labels) || !selects(to.Ingress[0].From[0].PodSelector.MatchLabels, pod.Labels) || to.Ingress[0].Ports[0].Port.IntVal != 8080 {
		t.Errorf("the scaler may not be called: %+v", to)
	}
	if !selects(from.PodSelector.MatchLabels, pod.Labels) || !selects(from.Egress[0].To[0].PodSelector.MatchLabels, scaler.Labels) || from.Egress[0].Ports[0].Port.IntVal != 8080 {
		t.Errorf("the test's pod may not call: %+v", from)
	}
	deployment := as[appsv1.Deployment](t, all, "Deployment "+controlPlane+"/"+name).Spec.Selector.MatchLabels
	budget := as[policyv1.PodDisruptionBudget](t, all, "PodDisruptionBudget "+controlPlane+"/"+name).Spec.Selector.MatchLabels
	if selects(deployment, pod.Labels) || selects(budget, pod.Labels) {
		t.Errorf("the test's pod, with labels %v, is taken for a replica", pod.Labels)
	}
}

// selects reports whether a selector finds a pod with these labels.
func selects(selector, labels map[string]string) bool {
	for label, value := range selector {
		if labels[label] != value {
			return false
		}
	}
	return len(selector) > 0
}

func TestReleaseNamesThatNoServiceCanHaveNeedAnother(t *testing.T) {
	for _, release := range []string{"my.rel", "1st", "1.bitbucket-runner-scaler"} {
		if _, _, err := released(release, controlPlane, object{}); err == nil || !strings.Contains(err.Error(), "set fullnameOverride") {
			t.Errorf("%s: got %v, want what to set", release, err)
		}
		if _, _, err := released(release, controlPlane, object{"fullnameOverride": "runners"}); err != nil {
			t.Errorf("%s: %v", release, err)
		}
	}
}

// YAML would take the names for numbers and booleans.
func TestNamesThatLookLikeOtherTypesAreTexts(t *testing.T) {
	for _, text := range []string{"123", "on", "null", "1e5", "0x1"} {
		values := with(t, "{fullnameOverride: 'on', credentials: {default: {existingSecret: X}, 12: {existingSecret: X}}, tls: {mode: certManager, secretName: X, issuer: {name: X}}, existingCABundle: X, priorityClassName: X, serviceAccount: {name: X}, traces: {endpoint: 'http://c:4317', headersSecret: X}, namespace: {create: true}, "+
			"networkPolicy: {enabled: true, kedaNamespace: X, monitoringNamespace: X, collectorNamespace: X, ingressNamespace: X, runnerNamespaces: [X]}, webhook: {enabled: true, host: X}, ingress: {enabled: true, className: X, secretName: X}, httpRoute: {enabled: true, parentRefs: [{name: X}]}, podMonitor: {enabled: true}, prometheusRule: {enabled: true}, dashboard: {enabled: true}, "+
			"groups: [{name: X, namespace: second, workspace: acme, labels: [a]}]}")
		all, _, err := released(text, "456", replaced(values, "X", text).(object))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		typed(t, all)
	}
}

// replaced returns a value with another text in place of one.
func replaced(value any, old, text string) any {
	switch v := value.(type) {
	case object:
		fields := object{}
		for key, field := range v {
			fields[key] = replaced(field, old, text)
		}
		return fields
	case []any:
		items := make([]any, len(v))
		for i, item := range v {
			items[i] = replaced(item, old, text)
		}
		return items
	case string:
		if v == old {
			return text
		}
	}
	return value
}

func TestTheNotesWarnOfSecretsInValues(t *testing.T) {
	for values, want := range map[string]bool{
		"credentials: {default: {accessToken: t, namespaces: [x]}}": true,
		"credentials: {default: {existingSecret: mine}}":            false,
		"{}": false,
	} {
		_, notes, err := charted(controlPlane, parsed(t, values))
		if err != nil || strings.Contains(notes, "WARNING") != want || strings.Contains(notes, "--scaler ") || strings.Contains(notes, "scaler_address") {
			t.Errorf("%s: %v, notes, want a warning %v:\n%s", values, err, want, notes)
		}
		if asks := strings.Contains(notes, "kubectl create secret generic runner-bitbucket-credentials -n "); asks != (values == "{}") {
			t.Errorf("%s: asked for a Secret: %v:\n%s", values, asks, notes)
		}
	}
}
