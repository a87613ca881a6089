package deploytest

import (
	"encoding/json"
	"maps"
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
)

// podMonitor is the part of the Prometheus Operator's PodMonitor that the installations use.
type podMonitor struct {
	Spec struct {
		Selector struct {
			MatchLabels map[string]string `json:"matchLabels"`
		} `json:"selector"`
		Endpoints []struct {
			Port        string `json:"port"`
			Path        string `json:"path"`
			Interval    string `json:"interval"`
			HonorLabels bool   `json:"honorLabels"`
		} `json:"podMetricsEndpoints"`
	} `json:"spec"`
}

func TestPrometheusReadsEachReplica(t *testing.T) {
	for way, all := range map[string]objects{"overlay": kustomized(t, "overlays/monitoring"), "chart": chartedFor(t, "monitoring")} {
		t.Run(way, func(t *testing.T) {
			monitor := into[podMonitor](t, object{"spec": all["PodMonitor "+controlPlane+"/"+name]["spec"]}).Spec
			template := as[appsv1.Deployment](t, all, "Deployment "+controlPlane+"/"+name).Spec.Template
			if _, ok := monitor.Selector.MatchLabels["bitbucket-runner-scaler/role"]; ok {
				t.Error("it reads only the leader")
			}
			for label, value := range monitor.Selector.MatchLabels {
				if template.Labels[label] != value {
					t.Errorf("the pods have %s %q, it selects %q", label, template.Labels[label], value)
				}
			}
			endpoint := monitor.Endpoints[0]
			named := slices.IndexFunc(template.Spec.Containers[0].Ports, func(p corev1.ContainerPort) bool { return p.Name == endpoint.Port })
			if named < 0 || template.Spec.Containers[0].Ports[named].ContainerPort != 8080 || endpoint.Path != "/metrics" {
				t.Errorf("it reads %s of port %s", endpoint.Path, endpoint.Port)
			}
			if !endpoint.HonorLabels {
				t.Error("the namespace of a group is replaced by that of the scaler")
			}
		})
	}
}

func TestPrometheusPassesTheNetworkPolicy(t *testing.T) {
	overlay := inOwnFolder(t, "resources: [../deploy/base]\ncomponents: [../deploy/components/network-policy, ../deploy/components/monitoring]\n")
	chart, _, err := charted(controlPlane, parsed(t, `{podMonitor: {enabled: true, labels: {release: mine}}, networkPolicy: {enabled: true, monitoringNamespace: monitoring}}`))
	if err != nil {
		t.Fatal(err)
	}
	for way, all := range map[string]objects{"overlay": overlay, "chart": chart} {
		open := false
		for _, rule := range as[networkingv1.NetworkPolicy](t, all, "NetworkPolicy "+controlPlane+"/"+name).Spec.Ingress {
			for _, peer := range rule.From {
				from := peer.NamespaceSelector.MatchLabels["kubernetes.io/metadata.name"] == "monitoring"
				open = open || from && rule.Ports[0].Port.IntVal == 8080 && peer.PodSelector == nil
			}
		}
		if !open {
			t.Errorf("%s: Prometheus may not read the metrics", way)
		}
	}
	if labels := chart["PodMonitor "+controlPlane+"/"+name]["metadata"].(object)["labels"].(object); labels["release"] != "mine" {
		t.Errorf("the PodMonitor has the labels %v", labels)
	}
}

func TestGrafanaFindsTheDashboard(t *testing.T) {
	_, want := readDashboard(t)
	for way, all := range map[string]objects{"overlay": kustomized(t, "overlays/monitoring"), "chart": chartedFor(t, "monitoring")} {
		found := as[corev1.ConfigMap](t, all, "ConfigMap "+controlPlane+"/"+name+"-dashboard")
		if found.Labels["grafana_dashboard"] != "1" || !slices.Equal(slices.Collect(maps.Keys(found.Data)), []string{name + ".json"}) {
			t.Errorf("%s: labels %v, %d files", way, found.Labels, len(found.Data))
		}
		if text := found.Data[name+".json"]; text != want || !json.Valid([]byte(text)) {
			t.Errorf("%s: it is not the dashboard", way)
		}
	}
}
