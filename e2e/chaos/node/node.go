// Package node is a stand-in for a node with its kubelet. It registers a Node in a real
// API server, runs the containers of the pods that the scheduler binds to it as processes,
// in the kubelet's order, and reports their status. Native sidecars, startup probes,
// preStop hooks, grace periods, emptyDirs and bound ServiceAccount tokens work as with the
// kubelet. There are no images, networks or cgroups. In addition, it can kill a container,
// a pod, or itself with all its pods.
package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.uber.org/zap"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/ptr"

	"bitbucket-runner-scaler/e2e/chaos/clock"
)

// leaseNamespace is where kubelets renew their leases.
const leaseNamespace = "kube-node-lease"

// renewEvery is the time between two renewals of the node's lease.
const renewEvery = 5 * time.Second

// Config configures a Node.
type Config struct {
	// Name and Labels are those of the Node.
	Name   string
	Labels map[string]string
	// Dir contains the pods' volumes, and Logs their containers' output. Dir must be
	// short, because it contains sockets.
	Dir, Logs string
	// Programs are the programs of all images, by their paths in the images.
	Programs map[string]string
	// Environment is added to the environment of every container.
	Environment []string
	// Clock is the containers' clock. Probes and grace periods use it too.
	Clock  *clock.Clock
	Client kubernetes.Interface
	Logger *zap.Logger
}

// Node is a running node. It is safe for concurrent use.
type Node struct {
	config Config
	log    *zap.Logger
	uid    types.UID
	cancel context.CancelFunc
	loops  sync.WaitGroup
	pods   sync.WaitGroup

	mu      sync.Mutex
	workers map[types.UID]*pod
	gone    bool
}

// Start registers the node and runs pods until Stop or Vanish.
func Start(ctx context.Context, config Config) (*Node, error) {
	n := &Node{config: config, log: config.Logger.With(zap.String("node", config.Name)), workers: map[types.UID]*pod{}}
	if err := n.register(ctx); err != nil {
		return nil, fmt.Errorf("register node %s: %w", config.Name, err)
	}
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	n.cancel = cancel
	n.loops.Go(func() { n.renew(life) })
	n.watch(life)
	return n, nil
}

// Name returns the Node's name.
func (n *Node) Name() string { return n.config.Name }

func (n *Node) register(ctx context.Context) error {
	// Earlier than the first pod, or the scheduler would find it not ready.
	node, err := n.config.Client.CoreV1().Nodes().Create(ctx, &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: n.config.Name, Labels: n.config.Labels},
	}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	n.uid = node.UID
	capacity := corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("1000"), corev1.ResourceMemory: resource.MustParse("1000Gi"), corev1.ResourcePods: resource.MustParse("1000"),
	}
	now := metav1.Now()
	patch, err := json.Marshal(map[string]any{"status": corev1.NodeStatus{
		Capacity: capacity, Allocatable: capacity,
		Conditions: []corev1.NodeCondition{{
			Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "StandIn", LastHeartbeatTime: now, LastTransitionTime: now,
		}},
	}})
	if err != nil {
		return err
	}
	if _, err := n.config.Client.CoreV1().Nodes().Patch(ctx, n.config.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status"); err != nil {
		return err
	}
	return n.lease(ctx)
}

// lease renews the node's lease.
func (n *Node) lease(ctx context.Context) error {
	leases := n.config.Client.CoordinationV1().Leases(leaseNamespace)
	now := metav1.NowMicro()
	lease, err := leases.Get(ctx, n.config.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		_, err = leases.Create(ctx, &coordinationv1.Lease{
			ObjectMeta: metav1.ObjectMeta{Name: n.config.Name, OwnerReferences: []metav1.OwnerReference{
				{APIVersion: "v1", Kind: "Node", Name: n.config.Name, UID: n.uid},
			}},
			Spec: coordinationv1.LeaseSpec{HolderIdentity: &n.config.Name, LeaseDurationSeconds: ptr.To[int32](40), RenewTime: &now},
		}, metav1.CreateOptions{})
		return err
	}
	if err != nil {
		return err
	}
	lease.Spec.RenewTime = &now
	_, err = leases.Update(ctx, lease, metav1.UpdateOptions{})
	return err
}

func (n *Node) renew(ctx context.Context) {
	ticker := time.NewTicker(renewEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if err := n.lease(ctx); err != nil && ctx.Err() == nil {
				n.log.Info("lease not renewed", zap.Error(err)) // the API server may be away
			}
		}
	}
}

// watch watches the pods that are bound to the node.
func (n *Node) watch(ctx context.Context) {
	pods := cache.NewListWatchFromClient(n.config.Client.CoreV1().RESTClient(), "pods", metav1.NamespaceAll,
		fields.OneTermEqualSelector("spec.nodeName", n.config.Name))
	_, controller := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: pods, ObjectType: &corev1.Pod{},
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc:    func(obj any) { n.see(ctx, obj) },
			UpdateFunc: func(_, obj any) { n.see(ctx, obj) },
			DeleteFunc: func(obj any) {
				if last, ok := obj.(cache.DeletedFinalStateUnknown); ok {
					obj = last.Obj
				}
				if object, ok := obj.(*corev1.Pod); ok {
					n.forget(object.UID)
				}
			},
		},
	})
	n.loops.Go(func() { controller.Run(ctx.Done()) })
}

// see handles a pod from the watch.
func (n *Node) see(ctx context.Context, obj any) {
	object, ok := obj.(*corev1.Pod)
	if !ok {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	worker := n.workers[object.UID]
	if worker == nil {
		if n.gone || object.Status.Phase == corev1.PodSucceeded || object.Status.Phase == corev1.PodFailed {
			return
		}
		worker = newPod(n, object.DeepCopy())
		n.workers[object.UID] = worker
		n.pods.Go(func() { worker.run(ctx) })
	}
	if object.DeletionTimestamp != nil {
		worker.terminate(time.Duration(ptr.Deref(object.DeletionGracePeriodSeconds, 0)) * time.Second)
	}
}

// forget kills a pod whose object was deleted.
func (n *Node) forget(uid types.UID) {
	n.mu.Lock()
	worker := n.workers[uid]
	delete(n.workers, uid)
	n.mu.Unlock()
	if worker != nil {
		worker.kill()
	}
}

// Running returns the pods whose containers run.
func (n *Node) Running() []*corev1.Pod {
	n.mu.Lock()
	defer n.mu.Unlock()
	var running []*corev1.Pod
	for _, worker := range n.workers {
		if worker.alive() {
			running = append(running, worker.object)
		}
	}
	return running
}

// KillSidecar kills a pod's sidecar, which is then started again. It returns false if the
// sidecar does not run.
func (n *Node) KillSidecar(uid types.UID) bool {
	n.mu.Lock()
	worker := n.workers[uid]
	n.mu.Unlock()
	return worker != nil && worker.killSidecar()
}

// KillPod kills all processes of a pod and deletes its object, as a forced deletion does.
// Then it reports the pod's end, as a kubelet does if a finalizer still holds the pod. It
// returns false if the pod does not run. When it returns true, none of its processes run.
func (n *Node) KillPod(ctx context.Context, uid types.UID) bool {
	n.mu.Lock()
	worker := n.workers[uid]
	n.mu.Unlock()
	if worker == nil || !worker.alive() {
		return false
	}
	worker.kill()
	if err := n.remove(ctx, worker.object); err != nil {
		n.log.Info("pod not removed by force", zap.String("pod", worker.object.Name), zap.Error(err))
	}
	worker.report(ctx, corev1.PodFailed, "killed")
	return true
}

// remove deletes a pod's object without grace.
func (n *Node) remove(ctx context.Context, object *corev1.Pod) error {
	err := n.config.Client.CoreV1().Pods(object.Namespace).Delete(ctx, object.Name, metav1.DeleteOptions{
		GracePeriodSeconds: ptr.To[int64](0), Preconditions: &metav1.Preconditions{UID: &object.UID},
	})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return err
}

// Vanish kills the node with all its processes and reports nothing to the API server. It
// returns the pods that ran.
func (n *Node) Vanish() []*corev1.Pod {
	n.mu.Lock()
	n.gone = true
	workers := make([]*pod, 0, len(n.workers))
	for _, worker := range n.workers {
		workers = append(workers, worker)
	}
	n.mu.Unlock()
	n.cancel()
	var lost []*corev1.Pod
	for _, worker := range workers {
		if worker.alive() {
			lost = append(lost, worker.object)
		}
	}
	for _, worker := range workers {
		worker.kill()
	}
	n.pods.Wait()
	n.loops.Wait()
	return lost
}

// Unregister deletes the Node, as a cloud controller or an operator does after its loss,
// and forcibly deletes the pods that were bound to it.
func (n *Node) Unregister(ctx context.Context) error {
	err := n.config.Client.CoreV1().Nodes().Delete(ctx, n.config.Name, metav1.DeleteOptions{})
	if apierrors.IsNotFound(err) {
		err = nil
	}
	pods, listErr := n.config.Client.CoreV1().Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{
		FieldSelector: fields.OneTermEqualSelector("spec.nodeName", n.config.Name).String(),
	})
	if listErr != nil {
		return errors.Join(err, fmt.Errorf("pods of the node %s: %w", n.config.Name, listErr))
	}
	errs := []error{err}
	for i := range pods.Items {
		errs = append(errs, n.remove(ctx, &pods.Items[i]))
	}
	return errors.Join(errs...)
}

// podDir returns the directory of a pod's volumes.
func (n *Node) podDir(object *corev1.Pod) string {
	return filepath.Join(n.config.Dir, string(object.UID)[:8])
}

func (n *Node) openLog(object *corev1.Pod, container string) string {
	return filepath.Join(n.config.Logs, object.Namespace+"_"+object.Name+"_"+container+".log")
}

func makeDir(path string) error { return os.MkdirAll(path, 0o700) }
