package cluster

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// corednsVersion must agree with the go.mod of its tool module.
const corednsVersion = "1.15.0"

// keptFor is how long builds of other versions stay in the cache after their last use.
const keptFor = 14 * 24 * time.Hour

// Binaries contains the paths of everything that Build makes.
type Binaries struct {
	Versions Versions

	Etcd              string
	APIServer         string
	ControllerManager string
	Scheduler         string
	Kubelet           string
	KubeProxy         string
	// Kubectl is the client of the same version as the cluster.
	Kubectl string
	CoreDNS string
	KEDA    string
	// KEDAAdapter is the metrics API server, KEDAWebhooks the admission webhooks.
	KEDAAdapter  string
	KEDAWebhooks string
	// KEDAArithmetic answers what the newest KEDA would create; its protocol stands in tools/keda/arithmetic.
	KEDAArithmetic string
	Pause          string

	// PauseImage, CoreDNSImage and KEDAImage are docker archives, the last one with KEDA's three programs.
	PauseImage   string
	CoreDNSImage string
	KEDAImage    string
	// KEDAManifest is KEDA's own config/default with the local image put in.
	KEDAManifest string
}

// module is one Go module under tools (or this one) and what is built from it. Its files and flags name the folder
// of the results, so a change in one module builds nothing of another.
type module struct {
	dir     string // relative to this module's root
	sources string // the folder whose go files count, relative to this module's root
	ldflags string
	targets []target
}

// target is one program.
type target struct {
	name, pkg string
	path      func(*Binaries) *string
}

// modules returns what is built for a cluster of those versions. Where two modules make the same program, the later
// one's is used.
func modules(v Versions) []module {
	all := []module{
		{dir: ".", sources: "tools/pause", targets: []target{
			{"pause", "./tools/pause", func(b *Binaries) *string { return &b.Pause }},
		}},
		{dir: "tools/etcd", sources: "tools/etcd", targets: []target{
			{"etcd", "go.etcd.io/etcd/server/v3", func(b *Binaries) *string { return &b.Etcd }},
		}},
		kubernetesModule(v.Kubernetes),
		{dir: "tools/coredns", sources: "tools/coredns", targets: []target{
			{"coredns", ".", func(b *Binaries) *string { return &b.CoreDNS }},
		}},
		// The tests compare with its arithmetic, whichever KEDA the cluster runs.
		kedaModule(kedaReleases[0], target{"arithmetic", "./arithmetic", func(b *Binaries) *string { return &b.KEDAArithmetic }}),
	}
	if v.KEDA != kedaReleases[0] {
		all = append(all, kedaModule(v.KEDA))
	}
	return all
}

func kubernetesModule(release Release) module {
	const client, base, cmd = "k8s.io/client-go/pkg/version", "k8s.io/component-base/version", "k8s.io/kubernetes/cmd/"
	_, minor, _ := strings.Cut(release.minor(), ".")
	stamp := fmt.Sprintf("-X %[1]s.gitVersion=v%[3]s -X %[1]s.gitMajor=1 -X %[1]s.gitMinor=%[4]s -X %[2]s.gitVersion=v%[3]s",
		base, client, release.Version, minor)
	return module{dir: release.dir(), sources: release.dir(), ldflags: stamp, targets: []target{
		{"kube-apiserver", cmd + "kube-apiserver", func(b *Binaries) *string { return &b.APIServer }},
		{"kube-controller-manager", cmd + "kube-controller-manager", func(b *Binaries) *string { return &b.ControllerManager }},
		{"kube-scheduler", cmd + "kube-scheduler", func(b *Binaries) *string { return &b.Scheduler }},
		{"kubelet", cmd + "kubelet", func(b *Binaries) *string { return &b.Kubelet }},
		{"kubectl", cmd + "kubectl", func(b *Binaries) *string { return &b.Kubectl }},
		{"kube-proxy", cmd + "kube-proxy", func(b *Binaries) *string { return &b.KubeProxy }},
	}}
}

func kedaModule(release Release, more ...target) module {
	const keda = "github.com/kedacore/keda/v2/"
	return module{dir: release.dir(), sources: release.dir(), ldflags: "-X " + keda + "version.Version=" + release.Version, targets: append([]target{
		{"keda", keda + "cmd/operator", func(b *Binaries) *string { return &b.KEDA }},
		{"keda-adapter", keda + "cmd/adapter", func(b *Binaries) *string { return &b.KEDAAdapter }},
		{"keda-admission-webhooks", keda + "cmd/webhooks", func(b *Binaries) *string { return &b.KEDAWebhooks }},
	}, more...)}
}

// Build builds whatever is not in the user's cache folder yet, writes its progress to out, and returns the paths of
// everything, in the versions that the environment chooses. From nothing that takes about half an hour on two cores and 4 GB of memory; with everything built, a
// second. Processes that build at the same time wait for each other. Building images needs what Require installs.
func Build(ctx context.Context, out io.Writer) (Binaries, error) {
	versions, err := chosen()
	if err != nil {
		return Binaries{}, err
	}
	root, err := moduleRoot(ctx)
	if err != nil {
		return Binaries{}, err
	}
	cache, err := cacheDir()
	if err != nil {
		return Binaries{}, err
	}
	lock, err := lockFile(ctx, filepath.Join(cache, "build.lock"), time.Hour, func() {
		_, _ = fmt.Fprintln(out, "waiting for another build of the cluster's programs ...")
	})
	if err != nil {
		return Binaries{}, fmt.Errorf("waiting for another build: %w", err)
	}
	defer func() { _ = lock.Close() }()

	b := &builder{root: root, cache: cache, progress: progress{out: out, start: time.Now()}, made: Binaries{Versions: versions}}
	if err := b.run(ctx); err != nil {
		return Binaries{}, err
	}
	removeUnused(filepath.Join(cache, "bin"))
	return b.made, nil
}

// builder holds one run of Build.
type builder struct {
	root, cache string
	progress
	made Binaries
}

func (b *builder) run(ctx context.Context) error {
	goVersion, err := output(ctx, b.root, "go", "env", "GOVERSION")
	if err != nil {
		return err
	}
	all := modules(b.made.Versions)
	for _, m := range all {
		b.total += len(m.targets)
	}
	images := b.images()
	b.total += len(images) + 1 // KEDA's manifest
	dirs := map[string]string{}
	for _, m := range all {
		dir, err := b.moduleDir(m, goVersion)
		if err != nil {
			return err
		}
		dirs[m.dir] = dir
		for _, t := range m.targets {
			path := filepath.Join(dir, t.name)
			*t.path(&b.made) = path
			if err := b.make(ctx, t.name, path, func(ctx context.Context, temp string) error {
				return b.compile(ctx, m, t, temp)
			}); err != nil {
				return err
			}
		}
	}
	for _, i := range images {
		path := filepath.Join(dirs[i.module], i.name+".tar")
		*i.path = path
		if err := b.make(ctx, "image "+i.name, path, i.build); err != nil {
			return err
		}
	}
	b.made.KEDAManifest = filepath.Join(dirs[b.made.Versions.KEDA.dir()], "keda.yaml")
	return b.make(ctx, "KEDA's manifest", b.made.KEDAManifest, b.renderKEDA)
}

// moduleDir is the cache folder of a module's results, made if need be: its name holds a hash of everything that the
// results depend on.
func (b *builder) moduleDir(m module, goVersion string) (string, error) {
	hash := sha256.New()
	_, _ = fmt.Fprintln(hash, goVersion, runtime.GOARCH, m.ldflags, recipe)
	for _, t := range m.targets {
		_, _ = fmt.Fprintln(hash, t.name, t.pkg)
	}
	sources := os.DirFS(filepath.Join(b.root, m.sources))
	err := fs.WalkDir(sources, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		if ext := filepath.Ext(path); ext != ".go" && ext != ".mod" && ext != ".sum" {
			return nil
		}
		content, err := fs.ReadFile(sources, path)
		if err != nil {
			return err
		}
		_, _ = fmt.Fprintf(hash, "%s %d\n", entry.Name(), len(content))
		_, _ = hash.Write(content)
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("reading the module %s: %w", m.sources, err)
	}
	dir := filepath.Join(b.cache, "bin", filepath.Base(m.sources)+"-"+hex.EncodeToString(hash.Sum(nil))[:12])
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	now := time.Now()
	return dir, os.Chtimes(dir, now, now) // says to removeUnused that it is in use
}

// make builds one file unless it exists. It uses a temporary name first, so that a file with the final name is complete.
func (b *builder) make(ctx context.Context, what, path string, build func(ctx context.Context, temp string) error) error {
	b.done++
	if _, err := os.Stat(path); err == nil {
		return nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	temp := path + ".partial"
	if err := os.RemoveAll(temp); err != nil {
		return err
	}
	end := b.announce(what)
	if err := build(ctx, temp); err != nil {
		end("failed")
		return fmt.Errorf("building %s: %w", what, err)
	}
	end("done")
	return os.Rename(temp, path)
}

func (b *builder) compile(ctx context.Context, m module, t target, out string) error {
	cmd := command(ctx, "go", "build", "-trimpath", "-ldflags", strings.TrimSpace("-s -w "+m.ldflags), "-o", out, t.pkg)
	cmd.Dir = filepath.Join(b.root, m.dir)
	// Static, so that the programs run in images that hold nothing else.
	cmd.Env = environment("CGO_ENABLED=0", "GOFLAGS=-buildvcs=false", "GOWORK=off")
	return runQuiet(cmd)
}

// removeUnused removes builds of other versions. If that fails, it is tried again the next time.
func removeUnused(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, entry := range entries {
		if info, err := entry.Info(); err == nil && entry.IsDir() && time.Since(info.ModTime()) > keptFor {
			_ = os.RemoveAll(filepath.Join(dir, entry.Name()))
		}
	}
}

// moduleRoot returns the directory of this Go module. The tools are separate modules, so they can be neither imported
// nor embedded.
func moduleRoot(ctx context.Context) (string, error) {
	dir, err := output(ctx, "", "go", "list", "-m", "-f", "{{.Dir}}", "bitbucket-runner-scaler/e2e")
	if err != nil {
		return "", fmt.Errorf("finding the e2e module (run this inside its folder): %w", err)
	}
	return dir, nil
}

// cacheDir returns the directory of builds, locks and the state of a running cluster.
func cacheDir() (string, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("finding the user's cache folder: %w", err)
	}
	dir := filepath.Join(base, "bitbucket-runner-scaler")
	return dir, os.MkdirAll(dir, 0o755)
}

// output runs a command to its end and returns its standard output without surrounding space.
func output(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := command(ctx, name, args...)
	cmd.Dir = dir
	var failure strings.Builder
	cmd.Stderr = &failure
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(failure.String()))
	}
	return strings.TrimSpace(string(out)), nil
}

// runQuiet runs a command to its end. If the command fails, the error contains its output.
func runQuiet(cmd *exec.Cmd) error {
	var printed strings.Builder
	cmd.Stdout, cmd.Stderr = &printed, &printed
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, tail(printed.String(), 40))
	}
	return nil
}

// tail returns the last n lines of a text.
func tail(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
