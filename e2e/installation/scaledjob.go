package installation

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// Edit contains the changes in a copy of the example ScaledJob.
type Edit struct {
	// Name is the name of the ScaledJob.
	Name string
	// Metadata is set in the trigger.
	Metadata map[string]string
	// Poll is its pollingInterval, in seconds. Default 1.
	Poll int64
	// Images replace the local ones.
	Images Images
	// GracePeriod is the grace period of its pods. Default 2 min.
	GracePeriod time.Duration
	// TokenLife is the lifetime of its sidecars' tokens, at least 10 min. Default: the
	// example's.
	TokenLife time.Duration
	// Crash has its runners end at once.
	Crash bool
	// PlainText disables TLS, as in the example of a build without TLS.
	PlainText bool
	// Root is the checkout that contains the example. Default: this one.
	Root string
}

// Example returns an edited copy of deploy/examples/scaledjob.yaml. The stand-in runner
// replaces Atlassian's runner and the Docker daemon, which the emulated steps do not use.
func Example(edit Edit) (string, error) {
	root := edit.Root
	if root == "" {
		var err error
		if root, err = Root(); err != nil {
			return "", err
		}
	}
	text, err := os.ReadFile(filepath.Join(root, "deploy", "examples", "scaledjob.yaml"))
	if err != nil {
		return "", fmt.Errorf("example: %w", err)
	}
	edited, err := scaledJobsOf(string(text), edit.apply)
	if err != nil {
		return "", fmt.Errorf("example: %w", err)
	}
	return edit.Images.in(edited), nil
}

// StandIn returns rendered manifests in which the stand-in runner replaces Atlassian's
// runner and the Docker daemon. The rest is unchanged.
func StandIn(manifests string) (string, error) {
	edited, err := scaledJobsOf(manifests, func(scaledJob *unstructured.Unstructured) error {
		spec, ok := scaledJob.Object["spec"].(map[string]any)
		if !ok {
			return errNoSpec
		}
		return Edit{}.pod(spec)
	})
	if err != nil {
		return "", fmt.Errorf("rendered: %w", err)
	}
	return edited, nil
}

var errNoSpec = errors.New("no spec")

// scaledJobsOf returns manifests with edited ScaledJobs.
func scaledJobsOf(manifests string, edit func(scaledJob *unstructured.Unstructured) error) (string, error) {
	var documents []string
	for document := range strings.SplitSeq("\n"+manifests, "\n---\n") {
		var object unstructured.Unstructured
		if err := yaml.Unmarshal([]byte(document), &object.Object); err != nil {
			return "", err
		}
		if object.GetKind() == "ScaledJob" {
			if err := edit(&object); err != nil {
				return "", fmt.Errorf("%s: %w", object.GetName(), err)
			}
		}
		edited, err := yaml.Marshal(object.Object)
		if err != nil {
			return "", err
		}
		documents = append(documents, string(edited))
	}
	return strings.Join(documents, "---\n"), nil
}

func (e Edit) apply(scaledJob *unstructured.Unstructured) error {
	scaledJob.SetName(e.Name)
	spec, ok := scaledJob.Object["spec"].(map[string]any)
	if !ok {
		return errNoSpec
	}
	spec["pollingInterval"] = cmp.Or(e.Poll, 1)
	if maximum, err := strconv.ParseInt(e.Metadata["max"], 10, 32); err == nil {
		spec["maxReplicaCount"] = maximum
	}
	triggers, _, err := unstructured.NestedSlice(spec, "triggers")
	if err != nil || len(triggers) != 1 {
		return fmt.Errorf("triggers: want one: %w", err)
	}
	trigger, _ := triggers[0].(map[string]any)
	metadata, _, err := unstructured.NestedStringMap(trigger, "metadata")
	if err != nil {
		return err
	}
	maps.Copy(metadata, e.Metadata)
	if err := unstructured.SetNestedStringMap(trigger, metadata, "metadata"); err != nil {
		return err
	}
	if e.PlainText {
		unstructured.RemoveNestedField(trigger, "metadata", "enableTLS")
		unstructured.RemoveNestedField(trigger, "authenticationRef")
	}
	spec["triggers"] = []any{trigger}
	return e.pod(spec)
}

func (e Edit) pod(spec map[string]any) error {
	path := []string{"jobTargetRef", "template", "spec"}
	pod, found, err := unstructured.NestedMap(spec, path...)
	if err != nil || !found {
		return fmt.Errorf("pod: %w", err)
	}
	pod["terminationGracePeriodSeconds"] = int64(cmp.Or(e.GracePeriod, 2*time.Minute).Seconds())
	delete(pod, "nodeSelector")
	var inits []any
	initContainers, _ := pod["initContainers"].([]any)
	for _, c := range initContainers {
		container, _ := c.(map[string]any)
		if container["name"] == "docker" {
			continue
		}
		container["image"] = ScalerImage
		if e.PlainText {
			container["env"] = plainText(container["env"])
		}
		inits = append(inits, container)
	}
	pod["initContainers"] = inits
	if err := e.projected(pod); err != nil {
		return err
	}
	containers, _ := pod["containers"].([]any)
	for _, c := range containers {
		container, _ := c.(map[string]any)
		command, _ := container["command"].([]any)
		if len(command) == 0 {
			return errors.New("the runner has no command")
		}
		container["image"] = EmulatorImage
		container["imagePullPolicy"] = "IfNotPresent"
		command = append(command[:len(command)-1:len(command)-1], "/bitbucket-emulator", "runner")
		if e.Crash {
			command = append(command, "--no-such-flag")
		}
		container["command"] = command
		container["resources"] = map[string]any{"requests": map[string]any{"cpu": "10m", "memory": "32Mi"}, "limits": map[string]any{"memory": "64Mi"}}
	}
	return unstructured.SetNestedMap(spec, pod, path...)
}

// plainText returns the sidecar's environment without TLS.
func plainText(env any) []any {
	var kept []any
	variables, _ := env.([]any)
	for _, v := range variables {
		variable, _ := v.(map[string]any)
		if name := variable["name"]; name != "SIDECAR_TLS" && name != "SIDECAR_CA_FILE" {
			kept = append(kept, v)
		}
	}
	return append(kept, map[string]any{"name": "SIDECAR_TLS", "value": "off"})
}

// projected changes the sources of the sidecar's volume: the token and the authorities.
func (e Edit) projected(pod map[string]any) error {
	volumes, _ := pod["volumes"].([]any)
	for _, v := range volumes {
		volume, _ := v.(map[string]any)
		sources, found, err := unstructured.NestedSlice(volume, "projected", "sources")
		if err != nil || !found {
			continue
		}
		sources = slices.DeleteFunc(sources, func(source any) bool {
			fields, _ := source.(map[string]any)
			_, bundle := fields["configMap"]
			return bundle && e.PlainText
		})
		for _, source := range sources {
			fields, _ := source.(map[string]any)
			if token, ok := fields["serviceAccountToken"].(map[string]any); ok && e.TokenLife > 0 {
				token["expirationSeconds"] = int64(e.TokenLife.Seconds())
			}
		}
		if err := unstructured.SetNestedSlice(volume, sources, "projected", "sources"); err != nil {
			return err
		}
	}
	return nil
}

// Apply applies a copy of the example.
func (i *Installation) Apply(ctx context.Context, edit Edit) error {
	manifest, err := Example(edit)
	if err != nil {
		return err
	}
	_, err = i.Kube.Run(ctx, manifest, "apply", "--server-side", "--force-conflicts", "-f", "-")
	return err
}

// Delete deletes a ScaledJob and thereby its Jobs.
func (i *Installation) Delete(ctx context.Context, name string) error {
	_, err := i.Kube.Run(ctx, "", "--namespace", Runners, "delete", "scaledjob.keda.sh", name, "--ignore-not-found", "--timeout=120s")
	return err
}
