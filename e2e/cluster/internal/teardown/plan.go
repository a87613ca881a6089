// Package teardown takes away what a cluster has left on the machine: processes, mounts, the network, cgroups,
// kernel settings, files. It knows what to look for from a Plan written before anything is started, not from a log of
// what was, so it works whenever and however the cluster ended. It starts nothing of a cluster.
package teardown

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Plan says what a cluster may leave behind and how the machine was before.
type Plan struct {
	// Dir holds every file of the cluster; mounts below it are the cluster's.
	Dir string `json:"dir"`
	// Marker is the environment variable NAME=VALUE of every process of the cluster that is not in a container.
	Marker string `json:"marker"`
	// CgroupRoot is the cgroup, relative to each hierarchy's root, under which all pods run.
	CgroupRoot string `json:"cgroupRoot"`
	// Bridge is the network device that all pods are joined to; Network the CNI network's name.
	Bridge  string `json:"bridge"`
	Network string `json:"network"`
	// Tables are the nftables tables, "family name".
	Tables []string `json:"tables"`
	// ForwardRules are rules that were put into iptables' FORWARD chain, without the -A FORWARD.
	ForwardRules [][]string `json:"forwardRules,omitempty"`
	// Sysctls are the kernel settings that a cluster changes, by their path below /proc/sys, as they were.
	Sysctls map[string]string `json:"sysctls"`
	// AbsentDirs are folders outside Dir that were not there before; they go again once they are empty.
	AbsentDirs []string `json:"absentDirs"`
}

// devicePlugins is where the kubelet listens for device plugins, wherever its own folder is.
const devicePlugins = "/var/lib/kubelet/device-plugins"

// foreignDirs are the folders outside Dir that containerd, its CNI library and the kubelet write into, whatever they
// are configured to; outermost first.
var foreignDirs = []string{
	"/run/containerd", "/run/containerd/s", "/var/lib/cni", "/var/lib/cni/results", "/var/lib/kubelet",
	devicePlugins, "/var/lib/kubelet/pki", "/var/log/containers", "/var/log/pods",
	"/opt/cni", "/opt/cni/bin", "/usr/libexec/kubernetes", "/run/netns", "/run/mount",
}

// sysctls are what the kubelet, kube-proxy and the CNI plugins set for the whole machine.
var sysctls = []string{
	"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding", "net/ipv4/conf/all/route_localnet",
	"net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables",
	"vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops",
	"kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes",
	"net/netfilter/nf_conntrack_max", "net/netfilter/nf_conntrack_tcp_be_liberal",
}

// Observe fills in how the machine is now.
func (p *Plan) Observe() {
	p.Sysctls = map[string]string{}
	for _, name := range sysctls {
		if value, err := os.ReadFile(filepath.Join("/proc/sys", name)); err == nil {
			p.Sysctls[name] = strings.TrimSpace(string(value))
		}
	}
	p.AbsentDirs = nil
	for _, dir := range foreignDirs {
		if _, err := os.Lstat(dir); os.IsNotExist(err) {
			p.AbsentDirs = append(p.AbsentDirs, dir)
		}
	}
}

// Save writes the plan to a file, whole or not at all.
func (p *Plan) Save(path string) error {
	content, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".partial", content, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".partial", path)
}

// Load reads a plan; an error that is fs.ErrNotExist says that there is none. A plan that names too little to be safe
// is refused: everything below Dir is deleted.
func Load(path string) (*Plan, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var p Plan
	if err := json.Unmarshal(content, &p); err != nil {
		return nil, fmt.Errorf("reading the plan %s: %w", path, err)
	}
	if strings.Count(filepath.Clean(p.Dir), "/") < 2 || !filepath.IsAbs(p.Dir) || p.Marker == "" || p.CgroupRoot == "" {
		return nil, fmt.Errorf("the plan %s is incomplete: dir %q, marker %q, cgroup %q", path, p.Dir, p.Marker, p.CgroupRoot)
	}
	return &p, nil
}
