package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"bitbucket-runner-scaler/e2e/cluster/internal/teardown"
)

// proxyTables are what kube-proxy makes in its nftables mode.
var proxyTables = []string{"ip kube-proxy", "ip6 kube-proxy"}

// checkFree returns an error if something that the cluster would take for itself is another's: nothing of a foreign
// Kubernetes on this machine may be touched, or even deleted at the end.
func checkFree(ctx context.Context) error {
	var errs []error
	for _, table := range proxyTables {
		if command(ctx, "nft", append([]string{"list", "table"}, strings.Fields(table)...)...).Run() == nil {
			errs = append(errs, fmt.Errorf("nftables table %q exists: a kube-proxy runs on this machine", table))
		}
	}
	if _, err := net.InterfaceByName(bridgeName); err == nil {
		errs = append(errs, fmt.Errorf("network device %s exists", bridgeName))
	}
	for _, address := range []string{"127.0.0.1:12379", "127.0.0.1:12380", "127.0.0.1:10257", "127.0.0.1:10259",
		"127.0.0.1:10248", "127.0.0.1:10249", "127.0.0.1:10256"} {
		listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
		if err != nil {
			errs = append(errs, fmt.Errorf("the address is taken: %w", err))
			continue
		}
		_ = listener.Close()
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("this machine is not free for a local cluster: %w", err)
	}
	return nil
}

// prepareNode makes the network device and the cgroups that the components expect to be there.
func (c *Cluster) prepareNode(ctx context.Context) error {
	// Missing modules may be built into the kernel, so their failing says nothing.
	for _, module := range []string{"overlay", "bridge", "br_netfilter", "veth", "nf_conntrack", "nf_tables"} {
		if find("modprobe") != "" {
			_ = command(ctx, "modprobe", "-q", module).Run()
		}
	}
	ones := strings.Split(podCIDR, "/")[1]
	for _, args := range [][]string{
		{"link", "add", bridgeName, "type", "bridge"},
		{"address", "add", nodeIP + "/" + ones, "dev", bridgeName},
		{"link", "set", bridgeName, "up"},
		// Keeps this machine's own packets to Services off its other networks until kube-proxy has turned them.
		{"route", "replace", serviceCIDR, "dev", bridgeName},
	} {
		if err := runQuiet(command(ctx, "ip", args...)); err != nil {
			return err
		}
	}
	if err := c.allowForwarding(ctx); err != nil {
		return err
	}
	return prepareCgroups()
}

// allowForwarding lets packets between pods through where the machine drops forwarded packets by default, as Docker
// makes it do: with br_netfilter that goes for a bridge's packets too.
func (c *Cluster) allowForwarding(ctx context.Context) error {
	rules, err := output(ctx, "", "nft", "list", "ruleset")
	if err != nil {
		return err
	}
	if !strings.Contains(rules, "hook forward priority filter; policy drop;") {
		return nil
	}
	c.plan.ForwardRules = [][]string{{"-i", bridgeName, "-j", "ACCEPT"}, {"-o", bridgeName, "-j", "ACCEPT"}}
	if err := c.plan.Save(c.planPath); err != nil { // first, so that they are taken back in any case
		return err
	}
	for _, rule := range c.plan.ForwardRules {
		if err := runQuiet(command(ctx, "iptables", append([]string{"-w", "10", "-I", "FORWARD"}, rule...)...)); err != nil {
			return err
		}
	}
	return nil
}

// prepareCgroups makes the cgroup under which all pods run, apart from whatever else runs on the machine.
func prepareCgroups() error {
	for _, root := range teardown.CgroupRoots() {
		dir := filepath.Join(root, cgroupRoot)
		if _, err := os.Stat(filepath.Join(root, "cgroup.controllers")); err == nil {
			if err := enableControllers(root); err != nil {
				return err
			}
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		// Version 1's cpuset lets no process in before it has CPUs and memory nodes of its own.
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			value, err := os.ReadFile(filepath.Join(root, file))
			if err != nil {
				continue // another controller, or version 2, where it is inherited
			}
			if err := os.WriteFile(filepath.Join(dir, file), value, 0o644); err != nil { //nolint:gosec // both are fixed names
				return fmt.Errorf("preparing the cgroup %s: %w", dir, err)
			}
		}
	}
	return nil
}

// enableControllers passes on, with version 2, the controllers that the kubelet wants below a cgroup's root.
func enableControllers(root string) error {
	available, err := os.ReadFile(filepath.Join(root, "cgroup.controllers"))
	if err != nil {
		return err
	}
	for controller := range strings.FieldsSeq(string(available)) {
		switch controller {
		case "cpu", "cpuset", "memory", "pids", "io":
			err := os.WriteFile(filepath.Join(root, "cgroup.subtree_control"), []byte("+"+controller), 0o644)
			if err != nil {
				return fmt.Errorf("passing the cgroup controller %s on (in a container, move its processes out of the root cgroup first): %w",
					controller, err)
			}
		}
	}
	return nil
}
