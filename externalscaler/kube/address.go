package kube

import (
	"net"
	"strings"
)

// ServiceNames returns a function for New's serves. It reports whether a scalerAddress
// is one of the given addresses, or names the Service of that name in that namespace in
// any form that a pod of the trigger's namespace could use.
func ServiceNames(service, namespace string, addresses ...string) func(scalerAddress, triggerNamespace string) bool {
	return func(scalerAddress, triggerNamespace string) bool {
		if scalerAddress == "" {
			return false // most triggers have none, and belong to other scalers
		}
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
		if service == "" || labels[0] != service {
			return false
		}
		switch {
		case len(labels) == 1: // KEDA resolves it in its own namespace
			return triggerNamespace == namespace
		case labels[1] != namespace:
			return false
		}
		return len(labels) == 2 || labels[2] == "svc"
	}
}
