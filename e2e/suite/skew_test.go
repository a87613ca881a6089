package suite

import (
	"cmp"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"bitbucket-runner-scaler/e2e/installation"
)

const (
	// earlier is the variable with the commit with which the current build must be
	// compatible. earliest is the default, the first release of the protocol.
	earlier, earliest = "E2E_PREVIOUS", "46648b7"
	previousImage     = "e2e.local/bitbucket-runner-scaler:previous"
)

// The control plane and the runners' Jobs are not updated at the same time, so each must be
// compatible with the other's previous build.
func TestLongBuildIsCompatibleWithThePreviousOne(t *testing.T) {
	previous := checkout(t, cmp.Or(os.Getenv(earlier), earliest))
	if err := installation.BuildScaler(t.Context(), shared.images, previous, previousImage); err != nil {
		t.Fatal(err)
	}
	present, err := installation.Root()
	if err != nil {
		t.Fatal(err)
	}
	old, now := release{previous, previousImage}, release{present, installation.ScalerImage}
	t.Cleanup(func() { now.deploy(t, "") })
	for name, c := range map[string]struct{ runners, first, then release }{
		"newer sidecars, and their control plane is updated":       {now, old, now},
		"newer sidecars, and the control plane's update is undone": {now, now, old},
		"older sidecars, and the control plane is updated":         {old, old, now},
		"older sidecars with a newer control plane":                {old, now, now},
	} {
		t.Run(name, func(t *testing.T) {
			c.first.deploy(t, plainText)
			edited(t, installation.Edit{
				Name: "skew", Metadata: map[string]string{"min": "1", "max": "4"},
				Root: c.runners.root, Images: installation.Images{Scaler: c.runners.image}, PlainText: true,
			})
			untilOnline(t, "skew", 1, 0)
			steps := queue(t, "skew", 8, "10s")
			untilBusy(t, "skew", 2)
			c.then.deploy(t, plainText)
			untilDone(t, "skew", steps)
			pod := pods(t, "skew")
			evict(t, pod[len(pod)-1])
			untilEnded(t, pod[len(pod)-1])
			untilOnline(t, "skew", 1, 0)
		})
	}
}

// release is a build of the product: its checkout, and its image.
type release struct{ root, image string }

// plainText makes the current build use plain text, as the previous one does.
const plainText = "--tls=off"

// deploy replaces the control plane with that of a release, with an additional flag. It
// does not replace the emulator, which contains the runners.
func (r release) deploy(t *testing.T, flag string) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	manifests, err := shared.Kube.Run(ctx, "", "kustomize", filepath.Join(r.root, "e2e", "installation", "overlay"))
	if err != nil {
		t.Fatal(err)
	}
	documents := slices.DeleteFunc(strings.Split(manifests, "\n---\n"), func(document string) bool {
		return strings.Contains(document, ": "+installation.Emulator+"\n")
	})
	manifests = strings.ReplaceAll(strings.Join(documents, "\n---\n"), installation.ScalerImage, r.image)
	if flag != "" && !strings.Contains(manifests, flag) {
		manifests = afterFirst.ReplaceAllString(manifests, "$0$1"+flag+"\n")
	}
	if _, err := shared.Kube.Run(ctx, manifests, "apply", "--server-side", "--force-conflicts", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	if _, err := shared.Kube.Run(ctx, "", "-n", installation.ControlPlane, "rollout", "status", "deployment/"+installation.Scaler, "--timeout=120s"); err != nil {
		t.Fatal(err)
	}
}

// afterFirst finds the line of a flag that every build's manifest has.
var afterFirst = regexp.MustCompile(`(?m)^( *- )--cluster=k8s\n`)

// checkout returns a directory with the tree of a commit.
func checkout(t *testing.T, commit string) string {
	t.Helper()
	root, err := installation.Root()
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	archive := exec.CommandContext(t.Context(), "git", "-C", root, "archive", commit)
	unpack := exec.CommandContext(t.Context(), "tar", "-x", "-C", folder)
	reader, writer := io.Pipe()
	var complaints strings.Builder
	archive.Stdout, archive.Stderr, unpack.Stdin = writer, &complaints, reader
	if err := unpack.Start(); err != nil {
		t.Fatal(err)
	}
	err = archive.Run()
	_ = writer.Close()
	if unpacked := unpack.Wait(); err != nil || unpacked != nil {
		t.Fatalf("commit %s: %v, %v: %s", commit, err, unpacked, complaints.String())
	}
	return folder
}
