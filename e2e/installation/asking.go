package installation

import "fmt"

// Asking returns the shell commands that read a group's metric as KEDA does. They are also
// in docs/operate.md. The scaler's Service must be forwarded to that local port.
func Asking(group, port string) string {
	return fmt.Sprintf(`
  kubectl get configmap bitbucket-runner-scaler-ca -n %[3]s -o jsonpath='{.data.ca\.crt}' >ca.crt
  metadata=$(kubectl get scaledjob %[5]s -n %[3]s -o jsonpath='{.spec.triggers[0].metadata}')
  grpcurl -cacert ca.crt -servername %[2]s.%[1]s.svc \
    -d '{"scaledObjectRef": {"namespace": "%[3]s", "name": "%[5]s", "scalerMetadata": '"$metadata"'}}' \
    127.0.0.1:%[4]s externalscaler.ExternalScaler/GetMetrics`, ControlPlane, Scaler, Runners, port, group)
}
