// Package installation installs the product in a cluster as its users do, from
// deploy/ by kustomize and by a copy of the example ScaledJob, with the emulator
// in Bitbucket's place and the stand-in runner in Atlassian's.
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

// Names of what is installed.
const (
	ControlPlane = "bitbucket-runner-control-plane"
	Runners      = "bitbucket-runner"
	Emulator     = "bitbucket-emulator"
	Scaler       = "bitbucket-runner-scaler"
	// ScalerImage and EmulatorImage are what the overlay names.
	ScalerImage   = "e2e.local/bitbucket-runner-scaler:dev"
	EmulatorImage = "e2e.local/bitbucket-emulator:dev"
)

// ImageBuilder builds images where the cluster finds them.
type ImageBuilder interface {
	BuildImage(ctx context.Context, dockerfile, contextDir, ref string, buildArgs ...string) error
}

// Root is the product's repository, which this module lies in.
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

// BuildImages builds both images, the product's and the emulator's, with programs
// that make builds.
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

// BuildPrograms builds programs of the product into a folder.
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
	// Control and BitbucketURL reach the emulator.
	Control      *emulator.Control
	BitbucketURL string

	forwarded func()
	cancel    context.CancelFunc
}

// Images are what to run where the cluster is not a local one; empty fields keep
// the overlay's.
type Images struct{ Scaler, Emulator string }

// Install applies the control plane and the emulator, with further flags for it, and
// waits until both are available.
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
	forward, cancel := context.WithCancel(context.WithoutCancel(ctx))
	address, wait, err := kube.Forward(forward, Emulator, "service/"+Emulator, "7990")
	if err != nil {
		cancel()
		return nil, err
	}
	url := "http://" + address
	return &Installation{Kube: kube, BitbucketURL: url, Control: emulator.NewControl(url), cancel: cancel, forwarded: wait}, nil
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

// Close ends the connection to the emulator; what is installed stays.
func (i *Installation) Close() {
	i.cancel()
	i.forwarded()
}

// Uninstall deletes all that was installed.
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
