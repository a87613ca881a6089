package installation

import "fmt"

// Asking are the shell commands that ask for a group's metric by hand, as KEDA does;
// docs/operate.md has them too. The scaler's Service is forwarded to that local port.
func Asking(group, port string) string {
	return fmt.Sprintf(`
  kubectl get configmap bitbucket-runner-scaler-ca -n %[3]s -o jsonpath='{.data.ca\.crt}' >ca.crt
  metadata=$(kubectl get scaledjob %[5]s -n %[3]s -o jsonpath='{.spec.triggers[0].metadata}')
  grpcurl -cacert ca.crt -servername %[2]s.%[1]s.svc \
    -d '{"scaledObjectRef": {"namespace": "%[3]s", "name": "%[5]s", "scalerMetadata": '"$metadata"'}}' \
    127.0.0.1:%[4]s externalscaler.ExternalScaler/GetMetrics`, ControlPlane, Scaler, Runners, port, group)
}
