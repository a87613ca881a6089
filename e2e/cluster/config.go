package cluster

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/template"
)

//go:embed config
var configFiles embed.FS

// recipe is all that besides a module's own files decides what is built from it.
var recipe = func() string {
	var all strings.Builder
	for _, pattern := range []string{"config/images/*", "config/kustomization.yaml"} {
		names, _ := fs.Glob(configFiles, pattern) // the patterns are well formed
		for _, name := range names {
			content, _ := configFiles.ReadFile(name) // embedded, so it is there
			all.WriteString(name + "\n" + string(content))
		}
	}
	return all.String() + kedaReleases[0].Version + corednsVersion
}()

// The cluster's addresses and names: one machine, one cluster, so they are fixed. The pods' network keeps clear of
// 10.88.0.0/16, which podman and buildah take for theirs.
const (
	nodeName    = "node1"
	bridgeName  = "e2e0"
	networkName = "e2e-cluster"
	cgroupRoot  = "e2e-cluster"
	podCIDR     = "10.203.0.0/24"
	nodeIP      = "10.203.0.1"
	serviceCIDR = "10.96.0.0/16"
	apiIP       = "10.96.0.1" // the first of serviceCIDR, by Kubernetes' rule
	dnsIP       = "10.96.0.10"
	apiPort     = "6443"
	etcdClient  = "http://127.0.0.1:12379"
	etcdPeer    = "http://127.0.0.1:12380"
)

// settings are what the templates in config may name.
type settings struct {
	Dir, Node, NodeIP, DNSIP, PodCIDR string
	Bridge, Network, CgroupRoot       string
	CNIPlugins, Snapshotter           string
	CoreDNSVersion                    string
}

func newSettings(dir string) (settings, error) {
	snapshotter, err := snapshotterFor(dir)
	if err != nil {
		return settings{}, err
	}
	return settings{
		Dir: dir, Node: nodeName, NodeIP: nodeIP, DNSIP: dnsIP, PodCIDR: podCIDR,
		Bridge: bridgeName, Network: networkName, CgroupRoot: cgroupRoot,
		CNIPlugins: cniPlugins(), Snapshotter: snapshotter,
		CoreDNSVersion: corednsVersion,
	}, nil
}

// write renders the configuration of every component into the cluster's folder.
func (s settings) write() error {
	for _, file := range []struct{ name, to string }{
		{"kubelet.yaml", "kubelet.yaml"},
		{"kube-proxy.yaml", "kube-proxy.yaml"},
		{"containerd.toml", "containerd.toml"},
		{"coredns.yaml", "coredns.yaml"},
		{"cni.conflist", "cni/10-e2e.conflist"},
	} {
		path := filepath.Join(s.Dir, file.to)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := render(file.name, path, s); err != nil {
			return err
		}
	}
	return nil
}

// render writes one file of config to a path, its template's fields filled in.
func render(name, path string, data any) error {
	content, err := configFiles.ReadFile("config/" + name)
	if err != nil {
		return err
	}
	if data != nil {
		parsed, err := template.New(name).Option("missingkey=error").Parse(string(content))
		if err != nil {
			return err
		}
		var filled bytes.Buffer
		if err := parsed.Execute(&filled, data); err != nil {
			return fmt.Errorf("filling in %s: %w", name, err)
		}
		content = filled.Bytes()
	}
	return os.WriteFile(path, content, 0o644)
}

// renderKEDA writes the manifest that installs KEDA: what its module's config/default says, with the image put in.
func (b *builder) renderKEDA(ctx context.Context, out string) (err error) {
	module := filepath.Join(b.root, b.made.Versions.KEDA.dir())
	if _, err := output(ctx, module, "go", "mod", "download", "github.com/kedacore/keda/v2"); err != nil {
		return err
	}
	source, err := output(ctx, module, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/kedacore/keda/v2")
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "keda-manifest-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	keda := filepath.Join(work, "keda")
	if err := os.CopyFS(filepath.Join(keda, "config"), os.DirFS(filepath.Join(source, "config"))); err != nil {
		return err
	}
	release := b.made.Versions.KEDA
	if err := render("kustomization.yaml", filepath.Join(keda, "kustomization.yaml"), struct{ KEDAVersion string }{release.Version}); err != nil {
		return err
	}
	top := keda
	if release != kedaReleases[0] {
		top = filepath.Join(work, "older")
		if err := os.Mkdir(top, 0o755); err != nil {
			return err
		}
		if err := render("older-keda.yaml", filepath.Join(top, "kustomization.yaml"), nil); err != nil {
			return err
		}
	}
	manifest, err := output(ctx, top, b.made.Kubectl, "kustomize", top)
	if err != nil {
		return err
	}
	return os.WriteFile(out, []byte(manifest+"\n"), 0o644)
}
