package config

import (
	"encoding/json"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"

	"bitbucket-runner-scaler/jobfactory"
)

// pod reads the keys that go into the pod's spec.
func (e entry) pod(g *jobfactory.RunnerGroup) {
	e.into(&g.PriorityClass, "priority_class")
	e.into((*string)(&g.PullPolicy), "image_pull_policy")
	if e.given("image_pull_secrets") {
		g.PullSecrets = e.stringsOf("image_pull_secrets")
	}
	if e.given("affinity") {
		g.Affinity = &corev1.Affinity{}
		e.typed(e.fields["affinity"], e.at("affinity"), g.Affinity)
	}
	g.Tolerations = typedItems(e, "tolerations", g.Tolerations)
	g.Env = typedItems(e, "env", g.Env)
	g.Volumes = typedItems(e, "volumes", g.Volumes)
	g.VolumeMounts = typedItems(e, "volume_mounts", g.VolumeMounts)
	g.DockerVolumeMounts = typedItems(e, "docker_volume_mounts", g.DockerVolumeMounts)
	proxy := e.textsOf("proxy", names(proxyKeys))
	g.Proxy = jobfactory.Proxy{HTTP: proxy["http"], HTTPS: proxy["https"], None: proxy["no_proxy"]}
	if e.given("pod_template") {
		if patch := e.json(e.fields["pod_template"], e.at("pod_template")); patch != nil {
			g.PodTemplates = append(g.PodTemplates, patch)
		}
	}
}

// typedItems reads a list of a Kubernetes type.
func typedItems[T any](e entry, key string, none []T) []T {
	if !e.given(key) {
		return none
	}
	nodes := e.list(e.fields[key], e.at(key))
	items := make([]T, len(nodes))
	for i, item := range nodes {
		e.typed(item, fmt.Sprintf("%s[%d]", e.at(key), i), &items[i])
	}
	return items
}

// typed reads a Kubernetes type, in Kubernetes' spelling of the keys.
func (r *reader) typed(node *yaml.Node, path string, into any) {
	data := r.json(node, path)
	if data == nil {
		return
	}
	for _, f := range jobfactory.DecodeStrict(data, path, into) {
		f.Line = node.Line
		r.faults = append(r.faults, f)
		r.markUnread(f.Path)
	}
}

// json returns a mapping as JSON. For anything else it returns nil and adds a fault.
func (r *reader) json(node *yaml.Node, path string) json.RawMessage {
	resolved := given(node)
	if resolved == nil || resolved.Kind != yaml.MappingNode {
		if resolved == nil {
			r.add(node, path, "null", "a mapping of keys to values")
		} else {
			r.add(node, path, describe(resolved), "a mapping of keys to values")
		}
		return nil
	}
	var value map[string]any
	if err := resolved.Decode(&value); err != nil {
		r.add(node, path, describe(resolved), "a mapping that YAML can resolve: "+err.Error())
		return nil
	}
	data, err := json.Marshal(value)
	if err != nil || len(data) > jobfactory.MaxInput {
		r.add(node, path, describe(resolved), fmt.Sprintf("a mapping of strings, numbers and lists, of at most %d bytes", jobfactory.MaxInput))
		return nil
	}
	return data
}

// mirrored returns an image's reference with the mirror instead of its registry.
func mirrored(mirror, image string) string {
	host, rest, found := strings.Cut(image, "/")
	if found && (strings.ContainsAny(host, ".:") || host == "localhost") {
		image = rest
	}
	return strings.TrimSuffix(mirror, "/") + "/" + image
}
