package round

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/e2e/chaos/clock"
	"bitbucket-runner-scaler/e2e/chaos/network"
	"bitbucket-runner-scaler/e2e/chaos/node"
	"bitbucket-runner-scaler/e2e/process"
)

// nodesAtOnce is how many nodes a round has.
const nodesAtOnce = 2

// roundLabel keeps a round's pods on its own nodes.
const roundLabel = "chaos/round"

// namespace is one of the round's: "cp" for the scalers, "a" and "b" for groups.
func (r *Round) namespace(short string) string { return r.id + "-" + short }

func (r *Round) program(name string) string { return filepath.Join(r.suite.Programs, name) }

func (r *Round) logFile(name string) string { return filepath.Join(r.dir, "logs", name+".log") }

// build starts everything but the groups.
func (r *Round) build(ctx context.Context) (err error) {
	if r.clock, err = clock.New(filepath.Join(r.dir, "clock"), r.plan.Rate); err != nil {
		return err
	}
	if r.scalerClock, err = r.clock.Twin(filepath.Join(r.dir, "scaler-clock")); err != nil {
		return err
	}
	if err := r.startEmulator(ctx); err != nil {
		return err
	}
	if err := r.registerForeign(ctx); err != nil {
		return err
	}
	if err := r.install(ctx); err != nil {
		return err
	}
	for range nodesAtOnce {
		if err := r.addNode(ctx); err != nil {
			return err
		}
	}
	if err := r.startReplicas(ctx); err != nil {
		return err
	}
	return errors.Join(r.planSteps(ctx), r.addWebhook(ctx))
}

// startEmulator starts Bitbucket, and the scalers' way to it.
func (r *Round) startEmulator(ctx context.Context) error {
	port, err := freePort(ctx)
	if err != nil {
		return err
	}
	address := "127.0.0.1:" + port
	arguments := []string{"serve", "--listen", address, "--public-url", "http://" + address, "--rate-limit", "-1"}
	if r.plan.HideStep {
		arguments = append(arguments, "--hide-step")
	}
	environment := []string{r.clock.Environment(), "PATH=" + os.Getenv("PATH")}
	if r.emulator, err = process.Start(r.logFile("emulator"), environment, r.program("bitbucket-emulator"), arguments...); err != nil {
		return err
	}
	r.control = emulator.NewControl("http://" + address)
	if r.bitbucket, err = network.NewGate(ctx, network.Fixed(address)); err != nil {
		return err
	}
	return r.until(ctx, "the emulator", time.Minute, func(ctx context.Context) error {
		_, err := r.control.State(ctx)
		return err
	})
}

func freePort(ctx context.Context) (string, error) {
	gate, err := network.NewGate(ctx, network.Fixed(""))
	if err != nil {
		return "", err
	}
	_, port, _ := strings.Cut(gate.Address(), ":")
	return port, gate.Close()
}

// addNode starts one more node.
func (r *Round) addNode(ctx context.Context) error {
	r.mu.Lock()
	r.made++
	name := fmt.Sprintf("%s-n%d", r.id, r.made)
	r.mu.Unlock()
	n, err := node.Start(ctx, node.Config{
		Name:   name,
		Labels: map[string]string{roundLabel: r.id, "kubernetes.io/arch": "amd64", "kubernetes.io/hostname": name},
		Dir:    filepath.Join(r.dir, "p"), Logs: filepath.Join(r.dir, "logs"),
		Programs: map[string]string{"/sidecar": r.program("sidecar"), "/bitbucket-emulator": r.program("bitbucket-emulator")},
		Clock:    r.clock, Client: r.suite.Client, Logger: r.log,
	})
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.nodes = append(r.nodes, n)
	r.mu.Unlock()
	return nil
}

// present are the nodes that there are now.
func (r *Round) present() []*node.Node {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]*node.Node(nil), r.nodes...)
}

// strike ends everything and takes it away, but for the round's folder.
func (r *Round) strike(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for _, one := range r.replicas {
		one.close()
	}
	var errs []error
	for _, n := range r.present() {
		n.Vanish()
		errs = append(errs, r.until(ctx, "the node "+n.Name()+" to be deleted", 0, n.Unregister)) // the API server may be away
	}
	for _, gate := range []*network.Gate{r.bitbucket, r.service, r.hooks} {
		if gate != nil {
			errs = append(errs, gate.Close())
		}
	}
	if r.emulator != nil {
		r.emulator.Kill()
	}
	for _, short := range []string{"cp", "a", "b"} {
		err := r.suite.Client.CoreV1().Namespaces().Delete(ctx, r.namespace(short), metav1.DeleteOptions{})
		if err != nil {
			r.log.Debug("namespace not deleted", zap.Error(err))
		}
	}
	for _, c := range []*clock.Clock{r.clock, r.scalerClock} {
		if c != nil {
			errs = append(errs, c.Close())
		}
	}
	return errors.Join(errs...)
}

// foreigner is a runner that is not ours.
type foreigner struct {
	path, status string
	busy         bool
}

// registerForeign puts runners of others into each scope, which must stay as they are.
func (r *Round) registerForeign(ctx context.Context) error {
	r.foreign = map[string]foreigner{}
	for i, scope := range []string{"workspaces/acme", "repositories/acme/app", "repositories/acme/web"} {
		for j, label := range []string{"keda.chaos.00000000", "somebody.elses"} {
			name := fmt.Sprintf("foreign-%d-%d", i, j)
			uuid, err := r.register(ctx, scope, name, label)
			if err != nil {
				return fmt.Errorf("register %s: %w", name, err)
			}
			f := foreigner{path: scope, status: "UNREGISTERED"}
			if j == 0 {
				f.status = "ONLINE"
				err = r.control.SetRunner(ctx, uuid, emulator.ActionOnline, "")
				if err == nil && i%2 == 0 {
					f.busy = true
					err = r.control.SetRunner(ctx, uuid, emulator.ActionStep, "")
				}
				if err == nil && i == 1 {
					f.status = "OFFLINE"
					err = r.control.SetRunner(ctx, uuid, emulator.ActionOffline, "")
				}
			}
			if err != nil {
				return err
			}
			r.foreign[uuid] = f
		}
	}
	return nil
}

// bitbucketURL is the scalers' way to Bitbucket.
func (r *Round) bitbucketURL() string { return "http://" + r.bitbucket.Address() }

var httpClient = &http.Client{Timeout: 30 * time.Second}
