// Package installation installs the product in a cluster as its users do: from deploy/
// with kustomize, and with a copy of the example ScaledJob. The emulator replaces
// Bitbucket, and the stand-in runner replaces Atlassian's runner.
package installation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"

	"bitbucket-runner-scaler/bitbucket/emulator"
)

// The names of the installed objects.
const (
	ControlPlane = "bitbucket-runner-scaler"
	Runners      = "bitbucket-runner"
	Emulator     = "bitbucket-emulator"
	Scaler       = "bitbucket-runner-scaler"
	// WebhookURL is where the scaler takes deliveries, and WebhookSecret signs them. The secret is
	// also in controlplane/kustomization.yaml.
	WebhookURL    = "http://" + Scaler + "-webhook." + ControlPlane + ".svc.cluster.local:8090/webhooks/bitbucket"
	WebhookSecret = "emulator-webhook-secret" //nolint:gosec // of the emulated Bitbucket
	// ScalerImage and EmulatorImage are the images in the overlay.
	ScalerImage   = "e2e.local/bitbucket-runner-scaler:dev"
	EmulatorImage = "e2e.local/bitbucket-emulator:dev"
)

// ImageBuilder builds images and makes them available to the cluster.
type ImageBuilder interface {
	BuildImage(ctx context.Context, dockerfile, contextDir, ref string, buildArgs ...string) error
}

// Root returns the root of the repository that contains this module.
func Root() (string, error) {
	_, file, _, ok := runtime.Caller(0)
	root := filepath.Join(filepath.Dir(file), "..", "..")
	if !ok {
		return "", errors.New("the repository's folder is not known")
	}
	if _, err := os.Stat(filepath.Join(root, "deploy", "base")); err != nil {
		return "", fmt.Errorf("run it from a checkout: %w", err)
	}
	return root, nil
}

// BuildImages builds the product's and the emulator's images, with programs that make
// builds.
func BuildImages(ctx context.Context, builder ImageBuilder, out io.Writer) error {
	root, err := Root()
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintln(out, "building the images")
	if err := BuildScaler(ctx, builder, root, ScalerImage); err != nil {
		return err
	}
	if err := in(ctx, root, "make", "--no-print-directory", "bin/emulator"); err != nil {
		return err
	}
	return builder.BuildImage(ctx, filepath.Join(root, "e2e", "installation", "emulator.Dockerfile"), filepath.Join(root, "bin", "emulator"), EmulatorImage)
}

// BuildScaler builds the product's image from a checkout.
func BuildScaler(ctx context.Context, builder ImageBuilder, root, ref string) error {
	if err := in(ctx, root, "make", "--no-print-directory", "bin/linux/"+runtime.GOARCH); err != nil {
		return err
	}
	return builder.BuildImage(ctx, filepath.Join(root, "Dockerfile"), root, ref, "TARGETARCH="+runtime.GOARCH)
}

// BuildRunnerctl builds runnerctl into a folder and returns its path.
func BuildRunnerctl(ctx context.Context, dir string) (program string, err error) {
	return filepath.Join(dir, "runnerctl"), BuildPrograms(ctx, dir, "runnerctl")
}

// BuildPrograms builds programs of the product into a directory.
func BuildPrograms(ctx context.Context, dir string, programs ...string) error {
	root, err := Root()
	if err != nil {
		return err
	}
	return in(ctx, root, "make", append([]string{"--no-print-directory", "BIN=" + dir}, programs...)...)
}

func in(ctx context.Context, dir, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, text)
	}
	return nil
}

// Installation is the product in a cluster.
type Installation struct {
	Kube Kube
	// Control and BitbucketURL give access to the emulator.
	Control      *emulator.Control
	BitbucketURL string

	forwarded func()
	cancel    context.CancelFunc
}

// Images are the images to run if the cluster is not local. Empty fields keep the
// overlay's images.
type Images struct{ Scaler, Emulator string }

// Install applies the control plane and the emulator, with additional flags for the
// emulator, and waits until both are available.
func Install(ctx context.Context, kube Kube, images Images, emulatorFlags ...string) (*Installation, error) {
	root, err := Root()
	if err != nil {
		return nil, err
	}
	manifests, err := kube.Run(ctx, "", "kustomize", filepath.Join(root, "e2e", "installation", "overlay"))
	if err != nil {
		return nil, err
	}
	manifests = images.in(manifests)
	for _, flag := range emulatorFlags {
		manifests = emulatorsFirst.ReplaceAllString(manifests, "$0$1"+flag+"\n")
	}
	if _, err := kube.Run(ctx, manifests, "apply", "--server-side", "-f", "-"); err != nil {
		return nil, err
	}
	for namespace, deployment := range map[string]string{ControlPlane: Scaler, Emulator: Emulator} {
		if _, err := kube.Run(ctx, "", "--namespace", namespace, "rollout", "status", "deployment/"+deployment, "--timeout=120s"); err != nil {
			return nil, err
		}
	}
	installed := &Installation{Kube: kube}
	if err := installed.Connect(ctx); err != nil {
		return nil, err
	}
	return installed, nil
}

// Connect connects to the emulator. It is for a new pod of it, after Close.
func (i *Installation) Connect(ctx context.Context) error {
	forward, cancel := context.WithCancel(context.WithoutCancel(ctx))
	address, wait, err := i.Kube.Forward(forward, Emulator, "service/"+Emulator, "7990")
	if err != nil {
		cancel()
		return err
	}
	i.BitbucketURL, i.cancel, i.forwarded = "http://"+address, cancel, wait
	i.Control = emulator.NewControl(i.BitbucketURL)
	return nil
}

// emulatorsFirst finds the line of the emulator's first flag.
var emulatorsFirst = regexp.MustCompile(`(?m)^( *- )--listen=:7990\n`)

func (i Images) in(manifests string) string {
	if i.Scaler != "" {
		manifests = strings.ReplaceAll(manifests, ScalerImage, i.Scaler)
	}
	if i.Emulator != "" {
		manifests = strings.ReplaceAll(manifests, EmulatorImage, i.Emulator)
	}
	return manifests
}

// Hook registers the scaler's webhook at the emulator.
func (i *Installation) Hook(ctx context.Context) error {
	return i.Control.AddWebhook(ctx, emulator.WebhookRequest{
		URL: WebhookURL, Secret: WebhookSecret,
	})
}

// Close ends the connection to the emulator. It does not uninstall anything.
func (i *Installation) Close() {
	i.cancel()
	i.forwarded()
}

// Uninstall deletes everything that was installed.
func (i *Installation) Uninstall(ctx context.Context) error {
	root, err := Root()
	if err != nil {
		return err
	}
	_, runners := i.Kube.Run(ctx, "", "delete", "namespace", Runners, "--ignore-not-found", "--timeout=120s")
	_, rest := i.Kube.Run(ctx, "", "delete", "-k", filepath.Join(root, "e2e", "installation", "overlay"), "--ignore-not-found", "--timeout=120s")
	return errors.Join(runners, rest)
}

// Get reads the scaler's HTTP endpoint through the API server.
func (i *Installation) Get(ctx context.Context, path string, into any) error {
	text, err := i.Kube.Run(ctx, "", "get", "--raw", "/api/v1/namespaces/"+ControlPlane+"/services/http:"+Scaler+":http/proxy"+path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(text), into); err != nil {
		return fmt.Errorf("scaler's %s: %w", path, err)
	}
	return nil
}
