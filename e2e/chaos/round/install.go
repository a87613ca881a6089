package round

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/e2e/chaos/plan"
	"bitbucket-runner-scaler/e2e/installation"
)

// Names of what is installed.
const (
	clusterName = "chaos"
	// scalerName is the ServiceAccount's, and the app label's, in deploy/base.
	scalerName = "bitbucket-runner-scaler"
	// baseNamespace is deploy/base's own.
	baseNamespace = "bitbucket-runner-scaler"
	// pollingInterval is deploy/examples' own, in seconds of the round's clock; KEDA has
	// the machine's.
	pollingInterval = 5
	// noScheduler is the name of none.
	noScheduler = "chaos-none"
)

var scaledJobs = schema.GroupVersionResource{Group: "keda.sh", Version: "v1alpha1", Resource: "scaledjobs"}

// install makes the round's namespaces and what deploy/ has for them, with the rights
// of deploy/base.
func (r *Round) install(ctx context.Context) error {
	root, err := installation.Root()
	if err != nil {
		return err
	}
	rights, err := os.ReadFile(filepath.Join(root, "deploy", "base", "rbac.yaml"))
	if err != nil {
		return fmt.Errorf("rights: %w", err)
	}
	documents := []string{}
	for _, short := range []string{"cp", "a", "b"} {
		documents = append(documents, fmt.Sprintf("apiVersion: v1\nkind: Namespace\nmetadata: {name: %s}\n", r.namespace(short)))
		if short != "cp" {
			documents = append(documents, fmt.Sprintf("apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: bitbucket-runner, namespace: %s}\n", r.namespace(short)))
		}
	}
	// What is cluster-wide has the namespace in its name, as kustomize fills it in.
	documents = append(documents, strings.NewReplacer("namespace: "+baseNamespace, "namespace: "+r.namespace("cp"), "$(CONTROL_PLANE)", r.namespace("cp")).Replace(string(rights)))
	_, err = r.suite.ControlPlane.Kubectl(ctx, strings.NewReader(strings.Join(documents, "\n---\n")), "apply", "--server-side", "-f", "-")
	return err
}

// apply creates a group's ScaledJob.
func (r *Round) apply(ctx context.Context, g plan.Group) error {
	object, err := r.scaledJob(g)
	if err != nil {
		return fmt.Errorf("group %s: %w", g.Name, err)
	}
	_, err = r.suite.Dynamic.Resource(scaledJobs).Namespace(object.GetNamespace()).Create(ctx, object, metav1.CreateOptions{})
	return err
}

// metadata is the group's trigger metadata.
func (r *Round) metadata(g plan.Group) map[string]string {
	metadata := map[string]string{
		"scalerAddress": r.service.Address(), "workspace": "acme", "labels": r.label(g),
		"min": strconv.Itoa(g.Min), "max": strconv.Itoa(g.Max), "coolDown": g.CoolDown.String(),
	}
	if g.Repository != "" {
		metadata["repository"] = g.Repository
	}
	if g.Ephemeral {
		metadata["ephemeral"] = "true"
	}
	if g.ByQueue {
		metadata["strategy"] = "queuedSteps"
	}
	if g.LookAhead > 0 {
		metadata["lookAhead"] = g.LookAhead.String()
	}
	if g.Listed {
		metadata["repositories"] = g.StepsIn
	}
	if g.MaxAge > 0 {
		metadata["maxAge"] = g.MaxAge.String()
	}
	return metadata
}

// label is the group's own, by which its steps find its runners.
func (r *Round) label(g plan.Group) string { return g.Name + "." + r.id }

// scaledJob is deploy/examples' with the group's metadata, the stand-in runner in the
// place of Atlassian's and of the Docker daemon, and plain text.
func (r *Round) scaledJob(g plan.Group) (*unstructured.Unstructured, error) {
	root, err := installation.Root()
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(filepath.Join(root, "deploy", "examples", "scaledjob.yaml"))
	if err != nil {
		return nil, fmt.Errorf("example: %w", err)
	}
	for document := range strings.SplitSeq(string(text), "\n---\n") {
		object := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(document), &object.Object); err != nil {
			return nil, fmt.Errorf("example: %w", err)
		}
		if object.GetKind() != "ScaledJob" {
			continue
		}
		object.SetName(g.Name)
		object.SetNamespace(r.namespace(g.Namespace))
		spec, ok := object.Object["spec"].(map[string]any)
		if !ok {
			return nil, errors.New("example: no spec")
		}
		spec["maxReplicaCount"], spec["pollingInterval"] = int64(g.Max), int64(max(1, pollingInterval/r.plan.Rate))
		metadata := map[string]any{}
		for key, value := range r.metadata(g) {
			metadata[key] = value
		}
		spec["triggers"] = []any{map[string]any{"type": "external", "metadata": metadata}}
		return object, r.pod(spec)
	}
	return nil, errors.New("example: no ScaledJob")
}

// pod edits the pod's template.
func (r *Round) pod(spec map[string]any) error {
	path := []string{"jobTargetRef", "template", "spec"}
	pod, found, err := unstructured.NestedMap(spec, path...)
	if err != nil || !found {
		return errors.Join(errors.New("example: no pod"), err)
	}
	pod["nodeSelector"] = map[string]any{roundLabel: r.id}
	var sidecars []any
	initContainers, _ := pod["initContainers"].([]any)
	for _, c := range initContainers {
		container, _ := c.(map[string]any)
		if container["name"] != "sidecar" {
			continue
		}
		container["env"] = r.sidecarEnv(container["env"])
		sidecars = append(sidecars, container)
	}
	pod["initContainers"] = sidecars
	containers, _ := pod["containers"].([]any)
	for _, c := range containers {
		container, _ := c.(map[string]any)
		delete(container, "resources")
		command, _ := container["command"].([]any)
		if len(command) == 0 {
			return errors.New("example: the runner has no command")
		}
		// The end of a container's first process is the end of all in it.
		container["command"] = append(command[:len(command)-1:len(command)-1],
			"setpriv", "--pdeathsig", "KILL", "--", "/bitbucket-emulator", "runner")
	}
	return unstructured.SetNestedMap(spec, pod, path...)
}

// sidecarEnv is the sidecar's, with the round's address and in plain text.
func (r *Round) sidecarEnv(example any) []any {
	env := []any{
		map[string]any{"name": "SIDECAR_SCALER_ADDRESS", "value": r.service.Address()},
		map[string]any{"name": "SIDECAR_TLS", "value": "off"},
	}
	given, _ := example.([]any)
	for _, v := range given {
		variable, _ := v.(map[string]any)
		if name := variable["name"]; name != "SIDECAR_SCALER_ADDRESS" && name != "SIDECAR_TLS" {
			env = append(env, v)
		}
	}
	return env
}

// ready applies the groups and waits until each has a runner.
func (r *Round) ready(ctx context.Context) error {
	for _, g := range r.plan.Groups {
		if err := r.apply(ctx, g); err != nil {
			return err
		}
	}
	return r.until(ctx, "a runner of each group", readyPatience, func(ctx context.Context) error {
		state, err := r.control.State(ctx)
		if err != nil {
			return err
		}
		for _, g := range r.plan.Groups {
			if n := online(state, r.label(g)); n < g.Rest() {
				return fmt.Errorf("group %s has %d runners online, want %d", g.Name, n, g.Rest())
			}
		}
		return nil
	})
}

// online counts the runners of a label that take steps.
func online(state emulator.State, label string) int {
	n := 0
	for _, runner := range state.Runners {
		for _, l := range runner.Labels {
			if l == label && runner.Status == "ONLINE" {
				n++
			}
		}
	}
	return n
}

// register registers a runner as somebody else.
func (r *Round) register(ctx context.Context, scope, name, label string) (uuid string, err error) {
	body, err := json.Marshal(map[string]any{"name": name, "labels": []string{"self.hosted", "linux", label}})
	if err != nil {
		return "", err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, r.bitbucketURL()+"/2.0/"+scope+"/pipelines-config/runners", bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	request.Header.Set("Authorization", "Bearer "+emulator.AccessToken)
	request.Header.Set("Content-Type", "application/json")
	answer, err := httpClient.Do(request)
	if err != nil {
		return "", err
	}
	defer func() { _ = answer.Body.Close() }()
	var made struct {
		UUID string `json:"uuid"`
	}
	if err := json.NewDecoder(answer.Body).Decode(&made); err != nil || made.UUID == "" {
		return "", fmt.Errorf("status %d: %w", answer.StatusCode, err)
	}
	return made.UUID, nil
}
