package deploytest

import (
	"testing"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
)

// typed reads each object into its type, so that a field that Kubernetes does not
// know is found without a cluster. A kind that the project does not use is an error too.
func typed(t *testing.T, all objects) {
	t.Helper()
	for key, fields := range all {
		switch kind := fields["kind"]; kind {
		case "Namespace":
			into[corev1.Namespace](t, fields)
		case "ServiceAccount":
			into[corev1.ServiceAccount](t, fields)
		case "Service":
			into[corev1.Service](t, fields)
		case "Secret":
			into[corev1.Secret](t, fields)
		case "ConfigMap":
			into[corev1.ConfigMap](t, fields)
		case "Pod":
			into[corev1.Pod](t, fields)
		case "Deployment":
			into[appsv1.Deployment](t, fields)
		case "PodDisruptionBudget":
			into[policyv1.PodDisruptionBudget](t, fields)
		case "NetworkPolicy":
			into[networkingv1.NetworkPolicy](t, fields)
		case "Ingress":
			into[networkingv1.Ingress](t, fields)
		case "Role":
			into[rbacv1.Role](t, fields)
		case "RoleBinding":
			into[rbacv1.RoleBinding](t, fields)
		case "ClusterRole":
			into[rbacv1.ClusterRole](t, fields)
		case "ClusterRoleBinding":
			into[rbacv1.ClusterRoleBinding](t, fields)
		case "ValidatingAdmissionPolicy":
			into[admissionv1.ValidatingAdmissionPolicy](t, fields)
		case "ValidatingAdmissionPolicyBinding":
			into[admissionv1.ValidatingAdmissionPolicyBinding](t, fields)
		case "ScaledJob":
			into[kedav1alpha1.ScaledJob](t, fields)
		case "TriggerAuthentication":
			into[kedav1alpha1.TriggerAuthentication](t, fields)
		case "Certificate": // cert-manager's own; its fields are in the overlay's test
		case "HTTPRoute": // the Gateway API's own
			into[route](t, object{"spec": fields["spec"]})
		case "PodMonitor": // the Prometheus Operator's own
			into[podMonitor](t, object{"spec": fields["spec"]})
		case "PrometheusRule":
			into[rule](t, object{"spec": fields["spec"]})
		default:
			t.Errorf("%s: an unexpected kind %v", key, kind)
		}
	}
}

func TestEveryFieldIsOneThatKubernetesKnows(t *testing.T) {
	for installation, all := range everyInstallation(t) {
		t.Run(installation, func(t *testing.T) { typed(t, all) })
	}
}
