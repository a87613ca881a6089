// Package kube is the only package of the control plane that uses client-go. With
// watches and a few live calls it implements the interfaces in which fleet, registrar,
// reaper and others state what they need from Kubernetes.
package kube

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync/atomic"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"bitbucket-runner-scaler/externalscaler/fleet"
)

// ScaledJobLabel is the label that KEDA puts on the Jobs of a ScaledJob and on
// their pods, with the ScaledJob's name (pkg/scaling/executor/scale_jobs.go).
const ScaledJobLabel = "scaledjob.keda.sh/name"

// Limits of the calls per second to the API server, of two clients: a flood of tokens
// must not hold up the others.
const (
	callsPerSecond = 50
	// reviewsPerSecond lets a fleet of sidecars attach again after a restart. With
	// client-go's default of 5 they would wait for minutes.
	reviewsPerSecond = 100
)

// callTimeout bounds each live call.
const callTimeout = 10 * time.Second

var scaledJobs = schema.GroupVersionResource{Group: "keda.sh", Version: "v1alpha1", Resource: "scaledjobs"}

// Cluster is a Kubernetes cluster with KEDA. Safe for concurrent use.
type Cluster struct {
	// serves reports whether an external trigger's scalerAddress names this installation.
	serves   func(scalerAddress, namespace string) bool
	changed  atomic.Pointer[func()]
	kept     kept
	recorder *recorder
	warnings *warnings
	client   kubernetes.Interface
	// reviews is for TokenReviews alone.
	reviews kubernetes.Interface
	// dynamicClient is for ScaledJobs.
	dynamicClient dynamic.Interface
	factory       informers.SharedInformerFactory
	dynamic       dynamicinformer.DynamicSharedInformerFactory
	jobs          cache.SharedIndexInformer
	pods          cache.SharedIndexInformer
	scaledJobs    cache.SharedIndexInformer
}

// New returns a Cluster. Start fills its caches. serves reports whether an external
// trigger's scalerAddress, in a ScaledJob of that namespace, names this installation. See
// ServiceNames.
func New(settings *rest.Config, serves func(scalerAddress, namespace string) bool) (*Cluster, error) {
	settings = rest.CopyConfig(settings)
	if settings.QPS == 0 {
		settings.QPS, settings.Burst = callsPerSecond, 2*callsPerSecond
	}
	reviewing := rest.CopyConfig(settings)
	reviewing.QPS, reviewing.Burst = reviewsPerSecond, 2*reviewsPerSecond
	reviews, err := kubernetes.NewForConfig(reviewing)
	if err != nil {
		return nil, fmt.Errorf("kubernetes client: %w", err)
	}
	client, err := kubernetes.NewForConfig(settings)
	if err != nil {
		return nil, fmt.Errorf("kubernetes client: %w", err)
	}
	dynamicClient, err := dynamic.NewForConfig(settings)
	if err != nil {
		return nil, fmt.Errorf("kubernetes client: %w", err)
	}
	c, err := newCluster(client, dynamicClient, serves)
	if err == nil {
		c.reviews = reviews
	}
	return c, err
}

func newCluster(client kubernetes.Interface, dynamicClient dynamic.Interface, serves func(scalerAddress, namespace string) bool) (*Cluster, error) {
	c := &Cluster{serves: serves, warnings: newWarnings(), client: client, reviews: client, dynamicClient: dynamicClient}
	c.factory = informers.NewSharedInformerFactoryWithOptions(client, 0,
		informers.WithTweakListOptions(func(o *metav1.ListOptions) { o.LabelSelector = ScaledJobLabel }),
		informers.WithTransform(slim))
	c.dynamic = dynamicinformer.NewDynamicSharedInformerFactory(dynamicClient, 0)
	c.jobs = c.factory.Batch().V1().Jobs().Informer()
	c.pods = c.factory.Core().V1().Pods().Informer()
	c.scaledJobs = c.dynamic.ForResource(scaledJobs).Informer()
	if err := c.scaledJobs.SetTransform(slimScaledJob); err != nil {
		return nil, fmt.Errorf("watch: %w", err)
	}
	if err := c.pods.AddIndexers(cache.Indexers{byOwner: ownerIndex}); err != nil {
		return nil, fmt.Errorf("index pods: %w", err)
	}
	for _, informer := range []cache.SharedIndexInformer{c.jobs, c.pods, c.scaledJobs} {
		if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc: func(any) { c.notify() }, DeleteFunc: func(any) { c.notify() },
			UpdateFunc: func(before, after any) {
				if !sameScaledJob(before, after) {
					c.notify()
				}
			},
		}); err != nil {
			return nil, fmt.Errorf("watch: %w", err)
		}
	}
	c.recorder = newRecorder(client)
	return c, nil
}

// OnChange sets the function that is called after each change that a watch reports.
func (c *Cluster) OnChange(changed func()) { c.changed.Store(&changed) }

func (c *Cluster) notify() {
	c.kept.version.Add(1)
	if changed := c.changed.Load(); changed != nil {
		(*changed)()
	}
}

// Start starts the watches and returns when every cache has its first list. It returns an
// error after the timeout. The watches end with ctx.
func (c *Cluster) Start(ctx context.Context, timeout time.Duration) error {
	c.factory.Start(ctx.Done())
	c.dynamic.Start(ctx.Done())
	waiting, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if cache.WaitForCacheSync(waiting.Done(), c.jobs.HasSynced, c.pods.HasSynced, c.scaledJobs.HasSynced) {
		return nil
	}
	err := fmt.Errorf("read Jobs, pods and ScaledJobs for the first time: %w", waiting.Err())
	if ctx.Err() == nil {
		err = fmt.Errorf("%w; %s", err, c.missingRights(ctx))
	}
	return err
}

// Stop waits for the watches to end. Call it after Start's ctx has ended.
func (c *Cluster) Stop() {
	c.recorder.close()
	c.factory.Shutdown()
	c.dynamic.Shutdown()
}

const byOwner = "owner"

// ownerIndex indexes pods by the namespace and UID of the Job that controls them. The
// namespace is part of the key because anyone who may create pods can name any UID as
// their owner, also that of a Job in another namespace. A real owner is always in the
// namespace of its pods.
func ownerIndex(obj any) ([]string, error) {
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return nil, nil
	}
	if uid, ok := controlledBy(pod, "Job", batchv1.GroupName); ok {
		return []string{pod.Namespace + "/" + uid}, nil
	}
	return nil, nil
}

// controlledBy returns the UID of an object's controller if the controller is of that kind.
func controlledBy(object metav1.Object, kind, group string) (uid string, ok bool) {
	owner := metav1.GetControllerOf(object)
	if owner == nil || owner.Kind != kind || !strings.HasPrefix(owner.APIVersion, group+"/") {
		return "", false
	}
	return string(owner.UID), true
}

// slimScaledJob removes the pod template, which is most of a ScaledJob. Otherwise it
// would be encoded again each time the groups are read.
func slimScaledJob(obj any) (any, error) {
	if u, ok := obj.(*unstructured.Unstructured); ok {
		u.SetManagedFields(nil)
		unstructured.RemoveNestedField(u.Object, "spec", "jobTargetRef")
		unstructured.RemoveNestedField(u.Object, "metadata", "annotations", "kubectl.kubernetes.io/last-applied-configuration")
		unstructured.RemoveNestedField(u.Object, "status")
	}
	return obj, nil
}

// sameScaledJob reports whether two versions of a ScaledJob differ only in the status,
// which KEDA writes at every poll.
func sameScaledJob(before, after any) bool {
	a, ok := before.(*unstructured.Unstructured)
	b, also := after.(*unstructured.Unstructured)
	return ok && also && a.GetUID() == b.GetUID() && a.GetGeneration() == b.GetGeneration() && maps.Equal(a.GetAnnotations(), b.GetAnnotations())
}

// slim removes fields that are never read, to save memory with a thousand pods.
func slim(obj any) (any, error) {
	switch o := obj.(type) {
	case *corev1.Pod:
		o.ManagedFields, o.Annotations, o.Spec = nil, nil, corev1.PodSpec{NodeName: o.Spec.NodeName}
		o.Status = slimStatus(o.Status)
	case *batchv1.Job:
		o.ManagedFields, o.Spec.Template = nil, corev1.PodTemplateSpec{}
		// The other annotations are copies of the ScaledJob's.
		o.Annotations = map[string]string{generationAnnotation: o.Annotations[generationAnnotation], DrainAnnotation: o.Annotations[DrainAnnotation]}
	}
	return obj, nil
}

// KubeSystemUID returns the UID of the kube-system namespace, which identifies the
// cluster.
func (c *Cluster) KubeSystemUID(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	namespace, err := c.client.CoreV1().Namespaces().Get(ctx, metav1.NamespaceSystem, metav1.GetOptions{})
	if err != nil {
		return "", fmt.Errorf("read namespace %s: %w", metav1.NamespaceSystem, err)
	}
	return string(namespace.UID), nil
}

// LivePods implements reaper.Pods. It lists the pods at the API server, not in the cache.
func (c *Cluster) LivePods(ctx context.Context) ([]fleet.Pod, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*callTimeout)
	defer cancel()
	var pods []fleet.Pod
	options := metav1.ListOptions{LabelSelector: ScaledJobLabel, Limit: 500}
	for {
		page, err := c.client.CoreV1().Pods(metav1.NamespaceAll).List(ctx, options)
		if err != nil {
			return nil, fmt.Errorf("list pods: %w", err)
		}
		for i := range page.Items {
			if pod := podOf(&page.Items[i]); !pod.Finished {
				pods = append(pods, pod)
			}
		}
		if options.Continue = page.Continue; options.Continue == "" {
			return pods, nil
		}
	}
}
