package deploytest

import (
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
)

// environment is that of the scaler.
func environment(t *testing.T, all objects) map[string]corev1.EnvVar {
	t.Helper()
	variables := map[string]corev1.EnvVar{}
	for _, variable := range as[appsv1.Deployment](t, all, "Deployment "+controlPlane+"/"+name).Spec.Template.Spec.Containers[0].Env {
		variables[variable.Name] = variable
	}
	return variables
}

func TestTracesReachTheCollector(t *testing.T) {
	all, _, err := charted(controlPlane, parsed(t, `{traces: {endpoint: "http://collector.tracing:4317", protocol: grpc, headersSecret: mine},
  extraEnv: [{name: OTEL_TRACES_SAMPLER, value: always_off}], networkPolicy: {enabled: true, collectorNamespace: tracing}}`))
	if err != nil {
		t.Fatal(err)
	}
	variables := environment(t, all)
	for key, want := range map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector.tracing:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_TRACES_SAMPLER": "always_off",
	} {
		if got := variables[key].Value; got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	headers := variables["OTEL_EXPORTER_OTLP_HEADERS"].ValueFrom
	if headers == nil || headers.SecretKeyRef == nil || headers.SecretKeyRef.Name != "mine" || headers.SecretKeyRef.Key != "headers" {
		t.Errorf("the headers come from %v, want the Secret", headers)
	}
	open := map[int32]bool{}
	for _, rule := range as[networkingv1.NetworkPolicy](t, all, "NetworkPolicy "+controlPlane+"/"+name).Spec.Egress {
		for _, peer := range rule.To {
			for _, port := range rule.Ports {
				open[port.Port.IntVal] = peer.NamespaceSelector.MatchLabels["kubernetes.io/metadata.name"] == "tracing"
			}
		}
	}
	if !open[4317] || !open[4318] {
		t.Errorf("the network policy opens %v, want 4317 and 4318", open)
	}
}

func TestWithoutACollectorNothingIsSaidOfTraces(t *testing.T) {
	for way, all := range map[string]objects{"base": kustomized(t, "base"), "chart": chartedFor(t, "network-policy")} {
		for key := range environment(t, all) {
			if strings.HasPrefix(key, "OTEL_") {
				t.Errorf("%s: the scaler has %s", way, key)
			}
		}
	}
	for _, rule := range as[networkingv1.NetworkPolicy](t, chartedFor(t, "network-policy"), "NetworkPolicy "+controlPlane+"/"+name).Spec.Egress {
		if len(rule.To) > 0 {
			t.Errorf("the network policy opens %v", rule.To)
		}
	}
}
