package node

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// container is a container's spec, converted to processes and paths of this machine.
type container struct {
	spec        corev1.Container
	environment []string
	// command is its command, probe its startup probe, and preStop its hook.
	command, probe, preStop []string
	probePeriod             time.Duration
	probeFailures           int
}

// containers are the containers of a pod: sidecars in start order, and the main container.
type containers struct {
	sidecars []*container
	main     *container
}

// prepare makes the pod's volumes and converts its containers.
func (p *pod) prepare(ctx context.Context) (containers, error) {
	volumes := map[string]string{}
	for _, v := range p.object.Spec.Volumes {
		path := filepath.Join(p.node.podDir(p.object), v.Name)
		volumes[v.Name] = path
		if err := makeDir(path); err != nil {
			return containers{}, fmt.Errorf("volume %s: %w", v.Name, err)
		}
		if v.Projected == nil {
			continue
		}
		for _, source := range v.Projected.Sources {
			if source.ServiceAccountToken == nil {
				continue
			}
			if err := p.writeToken(ctx, path, source.ServiceAccountToken); err != nil {
				return containers{}, fmt.Errorf("volume %s: %w", v.Name, err)
			}
		}
	}
	if len(p.object.Spec.Containers) != 1 {
		return containers{}, fmt.Errorf("%d main containers, want 1", len(p.object.Spec.Containers))
	}
	var all containers
	for _, spec := range p.object.Spec.InitContainers {
		if ptr.Deref(spec.RestartPolicy, "") != corev1.ContainerRestartPolicyAlways {
			return containers{}, fmt.Errorf("init container %s is no native sidecar", spec.Name)
		}
		all.sidecars = append(all.sidecars, p.container(spec, volumes))
	}
	all.main = p.container(p.object.Spec.Containers[0], volumes)
	return all, nil
}

// writeToken requests a token that is bound to the pod and writes it.
func (p *pod) writeToken(ctx context.Context, dir string, want *corev1.ServiceAccountTokenProjection) error {
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		Audiences: []string{want.Audience}, ExpirationSeconds: want.ExpirationSeconds,
		BoundObjectRef: &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: p.object.Name, UID: p.object.UID},
	}}
	answer, err := p.node.config.Client.CoreV1().ServiceAccounts(p.object.Namespace).
		CreateToken(ctx, p.object.Spec.ServiceAccountName, request, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, want.Path), []byte(answer.Status.Token), 0o600)
}

// container converts one container: paths into its volumes and programs of its image become
// paths of this machine.
func (p *pod) container(spec corev1.Container, volumes map[string]string) *container {
	here := func(text string) string {
		for _, mount := range spec.VolumeMounts {
			if rest, ok := strings.CutPrefix(text, mount.MountPath); ok && (rest == "" || rest[0] == '/') {
				return volumes[mount.Name] + rest
			}
		}
		if program, ok := p.node.config.Programs[text]; ok {
			return program
		}
		return text
	}
	all := func(texts []string) []string {
		mapped := make([]string, 0, len(texts))
		for _, text := range texts {
			mapped = append(mapped, here(text))
		}
		return mapped
	}
	c := &container{
		spec: spec, command: all(append(append([]string(nil), spec.Command...), spec.Args...)),
		environment: append([]string{"PATH=" + os.Getenv("PATH"), p.node.config.Clock.Environment()}, p.node.config.Environment...),
	}
	for _, variable := range spec.Env {
		c.environment = append(c.environment, variable.Name+"="+here(variable.Value))
	}
	// Its program reads this file at a fixed path.
	for _, mount := range spec.VolumeMounts {
		if mount.Name == "token" {
			c.environment = append(c.environment, "SIDECAR_TOKEN_FILE="+filepath.Join(volumes[mount.Name], "token"))
		}
	}
	if probe := spec.StartupProbe; probe != nil && probe.Exec != nil {
		c.probe = all(probe.Exec.Command)
		c.probePeriod = time.Duration(probe.PeriodSeconds) * time.Second
		c.probeFailures = int(probe.FailureThreshold)
	}
	if spec.Lifecycle != nil && spec.Lifecycle.PreStop != nil && spec.Lifecycle.PreStop.Exec != nil {
		c.preStop = all(spec.Lifecycle.PreStop.Exec.Command)
	}
	return c
}
