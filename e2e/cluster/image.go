package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// image is one of the images that the cluster itself needs. They hold static programs and nothing else, so that no
// base image has to come from a registry.
type image struct {
	name, ref string
	module    string // whose folder holds the archive
	path      *string
	dir       string // where the build keeps its temporary files
	programs  []string
}

func (b *builder) images() []image {
	dir, keda := filepath.Join(b.cache, "images"), b.made.Versions.KEDA
	return []image{
		{"pause", pauseImage, ".", &b.made.PauseImage, dir, nil},
		{"coredns", corednsImage, "tools/coredns", &b.made.CoreDNSImage, dir, nil},
		{"keda", kedaRepository + keda.Version, keda.dir(), &b.made.KEDAImage, dir, []string{"keda", "keda-adapter", "keda-admission-webhooks"}},
	}
}

// The images by the names that the manifests in config use; KEDA's tag is its version.
const (
	pauseImage     = "e2e.local/pause:1"
	corednsImage   = "e2e.local/coredns:" + corednsVersion
	kedaRepository = "e2e.local/keda:"
)

// build writes the image to a docker archive; its programs lie in the archive's folder.
func (i image) build(ctx context.Context, archive string) (err error) {
	if err := os.MkdirAll(i.dir, 0o755); err != nil {
		return err
	}
	work, err := os.MkdirTemp(i.dir, i.name+"-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	content := filepath.Join(work, "context")
	if err := os.MkdirAll(filepath.Join(content, "empty"), 0o755); err != nil {
		return err
	}
	if err := render("images/passwd", filepath.Join(content, "passwd"), nil); err != nil {
		return err
	}
	programs := i.programs
	if len(programs) == 0 {
		programs = []string{i.name}
	}
	for _, program := range programs {
		// Hard links: KEDA's programs alone are 350 MB.
		if err := os.Link(filepath.Join(filepath.Dir(archive), program), filepath.Join(content, program)); err != nil {
			return err
		}
	}
	dockerfile := filepath.Join(work, "Dockerfile")
	if err := render("images/"+i.name+".Dockerfile", dockerfile, nil); err != nil {
		return err
	}
	return buildah{dir: filepath.Join(work, "buildah")}.build(ctx, dockerfile, content, i.ref, archive)
}

// buildah builds images in a store of its own, below dir.
type buildah struct {
	dir string
	env []string
}

// build builds an image from a Dockerfile and writes it to a docker archive.
func (b buildah) build(ctx context.Context, dockerfile, contextDir, ref, archive string, buildArgs ...string) error {
	if err := os.MkdirAll(b.dir, 0o755); err != nil {
		return err
	}
	storage, policy := filepath.Join(b.dir, "storage.conf"), filepath.Join(b.dir, "policy.json")
	if err := errors.Join(
		render("images/storage.conf", storage, struct{ Dir string }{b.dir}),
		render("images/policy.json", policy, nil),
	); err != nil {
		return err
	}
	run := func(args ...string) error {
		cmd := command(ctx, "buildah", args...)
		cmd.Env = append(cmd.Env, append(b.env, "CONTAINERS_STORAGE_CONF="+storage)...)
		return runQuiet(cmd)
	}
	bud := []string{"bud", "--isolation=chroot", "--layers=false", "--timestamp", "0", "--signature-policy", policy, "-t", ref, "-f", dockerfile}
	for _, arg := range buildArgs {
		bud = append(bud, "--build-arg", arg)
	}
	if err := run(append(bud, contextDir)...); err != nil {
		return err
	}
	// A docker archive that exists is not overwritten but refused.
	if err := os.RemoveAll(archive); err != nil {
		return err
	}
	if err := run("push", "--signature-policy", policy, ref, "docker-archive:"+archive+":"+ref); err != nil {
		return err
	}
	return run("rmi", "--all", "--force")
}

// LoadImage puts the images of a docker archive into the node, under the names in the archive.
func (c *Cluster) LoadImage(ctx context.Context, archive string) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	cmd := command(ctx, "ctr", "--address", c.socket(), "--namespace", "k8s.io", "images", "import", "--snapshotter", c.config.Snapshotter, archive)
	cmd.Env = append(cmd.Env, c.plan.Marker)
	if err := runQuiet(cmd); err != nil {
		return fmt.Errorf("loading the image archive %s: %w", archive, err)
	}
	return nil
}

// BuildImage builds an image as `buildah bud` does and puts it into the node under the name ref, best
// e2e.local/NAME:TAG with imagePullPolicy Never. FROM scratch alone works: no registry is asked. Each build argument
// reads NAME=VALUE. Equal inputs give equal images.
func (c *Cluster) BuildImage(ctx context.Context, dockerfile, contextDir, ref string, buildArgs ...string) (err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	work, err := os.MkdirTemp(c.plan.Dir, "image-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	archive := filepath.Join(work, "image.tar")
	tool := buildah{dir: filepath.Join(work, "buildah"), env: []string{c.plan.Marker}}
	if err := tool.build(ctx, dockerfile, contextDir, ref, archive, buildArgs...); err != nil {
		return fmt.Errorf("building the image %s from %s: %w", ref, dockerfile, err)
	}
	return c.LoadImage(ctx, archive)
}
