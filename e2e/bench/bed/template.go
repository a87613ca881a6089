package bed

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"

	"bitbucket-runner-scaler/e2e/installation"
)

// exampleTemplate returns the pod template of the example, typed and as a ScaledJob has it.
func exampleTemplate() (typed corev1.PodTemplateSpec, plain map[string]any, err error) {
	root, err := installation.Root()
	if err != nil {
		return typed, nil, err
	}
	file, err := os.Open(filepath.Join(root, "deploy", "examples", "scaledjob.yaml"))
	if err != nil {
		return typed, nil, fmt.Errorf("read the example: %w", err)
	}
	defer func() { _ = file.Close() }() // only read
	decoder := yaml.NewYAMLOrJSONDecoder(file, 4096)
	for {
		var object struct {
			Kind string `json:"kind"`
			Spec struct {
				JobTargetRef struct {
					Template corev1.PodTemplateSpec `json:"template"`
				} `json:"jobTargetRef"`
			} `json:"spec"`
		}
		switch err := decoder.Decode(&object); {
		case errors.Is(err, io.EOF):
			return typed, nil, errors.New("read the example: no ScaledJob")
		case err != nil:
			return typed, nil, fmt.Errorf("read the example: %w", err)
		case object.Kind == "ScaledJob":
			typed = object.Spec.JobTargetRef.Template
			plain, err = runtime.DefaultUnstructuredConverter.ToUnstructured(&typed)
			if err != nil {
				return typed, nil, fmt.Errorf("read the example: %w", err)
			}
			return typed, plain, nil
		}
	}
}
