package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"bitbucket-runner-scaler/e2e/installation"
)

// scaled are the flags by which the tests' installation is faster than its users', and by
// which its Bitbucket allows more calls.
var scaled = map[string][]string{
	installation.Scaler:   {"--poll-interval", "--hourly-budget", "--max-staleness", "--write-settle", "--orphan-grace"},
	installation.Emulator: {"--rate-limit"},
}

// atDefaults removes the flags from both Deployments and waits until they are available
// without.
func atDefaults(ctx context.Context, kube installation.Kube) error {
	for namespace, deployment := range map[string]string{installation.ControlPlane: installation.Scaler, installation.Emulator: installation.Emulator} {
		const path = "/spec/template/spec/containers/0/args"
		text, err := kube.Run(ctx, "", "-n", namespace, "get", "deployment", deployment, "-o", "jsonpath={.spec.template.spec.containers[0].args}")
		if err != nil {
			return err
		}
		var args []string
		if err := json.Unmarshal([]byte(text), &args); err != nil {
			return fmt.Errorf("arguments of %s: %w", deployment, err)
		}
		args = slices.DeleteFunc(args, func(arg string) bool {
			name, _, _ := strings.Cut(arg, "=")
			return slices.Contains(scaled[deployment], name)
		})
		patch, err := json.Marshal([]map[string]any{{"op": "replace", "path": path, "value": args}})
		if err != nil {
			return err
		}
		if _, err := kube.Run(ctx, "", "-n", namespace, "patch", "deployment", deployment, "--type=json", "-p", string(patch)); err != nil {
			return err
		}
		if _, err := kube.Run(ctx, "", "-n", namespace, "rollout", "status", "deployment/"+deployment, "--timeout=120s"); err != nil {
			return err
		}
	}
	return nil
}
