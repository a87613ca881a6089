package deploytest

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
)

const webhookName = name + "-webhook"

// route is the part of the Gateway API's HTTPRoute that the installations use.
type route struct {
	Spec struct {
		ParentRefs []struct {
			Name      string `json:"name"`
			Namespace string `json:"namespace"`
		} `json:"parentRefs"`
		Hostnames []string `json:"hostnames"`
		Rules     []struct {
			Matches []struct {
				Path struct {
					Type  string `json:"type"`
					Value string `json:"value"`
				} `json:"path"`
				Method string `json:"method"`
			} `json:"matches"`
			BackendRefs []struct {
				Name string `json:"name"`
				Port int32  `json:"port"`
			} `json:"backendRefs"`
		} `json:"rules"`
	} `json:"spec"`
}

// checkPath follows a delivery from the Service to the scaler's listener, and checks that
// only the leader gets it.
func checkPath(t *testing.T, all objects) {
	t.Helper()
	service := as[corev1.Service](t, all, "Service "+controlPlane+"/"+webhookName)
	if service.Spec.Selector["bitbucket-runner-scaler/role"] != "leader" || service.Spec.Type != "" {
		t.Errorf("the Service selects %v, type %q", service.Spec.Selector, service.Spec.Type)
	}
	container := as[appsv1.Deployment](t, all, "Deployment "+controlPlane+"/"+name).Spec.Template.Spec.Containers[0]
	port := int32(0)
	for _, p := range container.Ports {
		if p.Name == service.Spec.Ports[0].TargetPort.StrVal {
			port = p.ContainerPort
		}
	}
	if args := strings.Join(container.Args, " "); port != 8090 || !strings.Contains(args, "--webhook-listen=:8090") {
		t.Errorf("the Service leads to port %d, arguments %s", port, args)
	}
}

func TestDeliveriesReachTheLeaderThroughAnIngress(t *testing.T) {
	for way, all := range map[string]objects{"overlay": kustomized(t, "overlays/webhooks-ingress"), "chart": chartedFor(t, "webhooks-ingress")} {
		t.Run(way, func(t *testing.T) {
			checkPath(t, all)
			ingress := as[networkingv1.Ingress](t, all, "Ingress "+controlPlane+"/"+webhookName).Spec
			rule := ingress.Rules[0]
			path := rule.HTTP.Paths[0]
			if len(ingress.Rules) != 1 || len(rule.HTTP.Paths) != 1 || path.Path != "/webhooks/bitbucket" || *path.PathType != networkingv1.PathTypeExact {
				t.Errorf("the Ingress opens more than one path: %v", ingress.Rules)
			}
			if backend := path.Backend.Service; backend.Name != webhookName || backend.Port.Name != "webhook" {
				t.Errorf("it leads to %v", backend)
			}
			if len(ingress.TLS) != 1 || !cmp.Equal(ingress.TLS[0].Hosts, []string{rule.Host}) || ingress.TLS[0].SecretName == "" {
				t.Errorf("host %s, TLS %v", rule.Host, ingress.TLS)
			}
		})
	}
}

func TestDeliveriesReachTheLeaderThroughAGateway(t *testing.T) {
	for way, all := range map[string]objects{"overlay": kustomized(t, "overlays/webhooks-gateway"), "chart": chartedFor(t, "webhooks-gateway")} {
		t.Run(way, func(t *testing.T) {
			checkPath(t, all)
			fields := all["HTTPRoute "+controlPlane+"/"+webhookName]
			spec := into[route](t, object{"spec": fields["spec"]}).Spec
			if fields["apiVersion"] != "gateway.networking.k8s.io/v1" || len(spec.ParentRefs) != 1 || len(spec.Hostnames) != 1 || len(spec.Rules) != 1 {
				t.Fatalf("got %v", fields)
			}
			rule := spec.Rules[0]
			if match := rule.Matches[0]; len(rule.Matches) != 1 || match.Path.Type != "Exact" || match.Path.Value != "/webhooks/bitbucket" || match.Method != "POST" {
				t.Errorf("the route opens %v", rule.Matches)
			}
			if backend := rule.BackendRefs[0]; backend.Name != webhookName || backend.Port != 8090 {
				t.Errorf("it leads to %v", backend)
			}
		})
	}
}

func TestDeliveriesPassTheNetworkPolicy(t *testing.T) {
	overlay := inOwnFolder(t, `apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [../deploy/base]
components: [../deploy/components/network-policy, ../deploy/components/webhooks]
`)
	chart, _, err := charted(controlPlane, parsed(t, `{namespace: {create: true}, webhook: {enabled: true}, networkPolicy: {enabled: true}}`))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(overlay, withoutHelm(chart)); diff != "" {
		t.Errorf("overlay -, chart +:\n%s", diff)
	}
	open := func(all objects) (from []string) {
		for _, rule := range as[networkingv1.NetworkPolicy](t, all, "NetworkPolicy "+controlPlane+"/"+name).Spec.Ingress {
			for _, port := range rule.Ports {
				if port.Port.IntVal != 8090 {
					continue
				}
				for _, peer := range rule.From {
					from = append(from, peer.NamespaceSelector.MatchLabels["kubernetes.io/metadata.name"])
				}
			}
		}
		return from
	}
	if got := open(overlay); !cmp.Equal(got, []string{"ingress-nginx"}) {
		t.Errorf("the port for deliveries is open to %v", got)
	}
	if got := open(kustomized(t, "overlays/network-policy")); got != nil {
		t.Errorf("without webhooks it is open to %v", got)
	}
}

func TestTheChartsSecretsOfWebhooksAreRead(t *testing.T) {
	all, _, err := charted(controlPlane, parsed(t, `{webhook: {enabled: true}, credentials: {default: {accessToken: t, namespaces: [x], webhookSecret: the-current-secret, webhookSecretPrevious: the-previous-secret}}}`))
	if err != nil {
		t.Fatal(err)
	}
	store, _ := store(t, all)
	sets, err := store.Webhooks()
	if err != nil || len(sets) != 1 || len(sets[0].Secrets) != 2 || sets[0].Secrets[0].Reveal() != "the-current-secret" {
		t.Errorf("got %v, %v", sets, err)
	}
}
