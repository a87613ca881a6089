package kube

import (
	"net"
	"strings"
)

// ServiceNames gives a test for Config.Serves: whether a scalerAddress names the
// Service of that name in that namespace, in any of the forms in which a pod of
// the trigger's namespace could write it, or one of the given addresses exactly.
func ServiceNames(service, namespace string, addresses ...string) func(scalerAddress, triggerNamespace string) bool {
	return func(scalerAddress, triggerNamespace string) bool {
		for _, address := range addresses {
			if scalerAddress == address {
				return true
			}
		}
		host := strings.TrimPrefix(scalerAddress, "dns:///")
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		labels := strings.Split(strings.TrimSuffix(host, "."), ".")
		if labels[0] != service {
			return false
		}
		switch {
		case len(labels) == 1: // as KEDA would resolve it: in KEDA's own namespace, or written by one of ours
			return triggerNamespace == namespace
		case labels[1] != namespace:
			return false
		}
		return len(labels) == 2 || labels[2] == "svc"
	}
}
