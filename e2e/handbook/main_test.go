package handbook

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bitbucket-runner-scaler/e2e/cluster"
	"bitbucket-runner-scaler/e2e/installation"
)

const (
	// full names the variable that makes the test run that takes long, and its cluster.
	full = "E2E_FULL"
	// patience bounds each wait for a condition, commandPatience each command.
	patience        = 4 * time.Minute
	commandPatience = 10 * time.Minute
)

var shared struct {
	kube installation.Kube
	// tools is the folder of the programs that the documentation takes for granted.
	tools string
}

func TestMain(m *testing.M) {
	if os.Getenv(full) == "" {
		if err := flag.Set("test.skip", "^TestLong"); err != nil {
			panic(err)
		}
		os.Exit(m.Run())
	}
	dir, err := os.MkdirTemp("", "handbook-")
	if err != nil {
		panic(err)
	}
	shared.tools = dir
	code := cluster.Run(m, func(ctx context.Context, c *cluster.Cluster) error {
		shared.kube = installation.Kube{Kubectl: c.Binaries().Kubectl, Kubeconfig: c.Kubeconfig()}
		return errors.Join(installation.BuildImages(ctx, c, os.Stderr), buildTools(ctx, dir))
	})
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// buildTools builds the programs that a reader has or builds.
func buildTools(ctx context.Context, dir string) error {
	root, err := installation.Root()
	if err != nil {
		return err
	}
	builds := [][]string{
		{"-C", filepath.Join(root, "e2e"), "build", "-o", dir + "/helm", "helm.sh/helm/v3/cmd/helm"},
		{"-C", root, "build", "-modfile=.ci/tools.mod", "-o", dir + "/grpcurl", "github.com/fullstorydev/grpcurl/cmd/grpcurl"},
	}
	for _, args := range builds {
		if out, err := exec.CommandContext(ctx, "go", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("go %s: %w: %s", strings.Join(args, " "), err, out)
		}
	}
	if err := installation.BuildPrograms(ctx, dir, "runnerctl", "bitbucket-emulator"); err != nil {
		return err
	}
	return os.Symlink(shared.kube.Kubectl, filepath.Join(dir, "kubectl"))
}
