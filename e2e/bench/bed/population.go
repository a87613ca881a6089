package bed

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"golang.org/x/sync/errgroup"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"bitbucket-runner-scaler/e2e/bench/apiserver"
	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

// Group is a runner group.
type Group struct {
	UID string
	Ref *pb.ScaledObjectRef
}

const (
	// perGroup runners of each group, and perWorkspace groups of each workspace, fill a workspace:
	// Bitbucket allows 100 runners.
	perGroup     = 10
	perWorkspace = 10
	// together is how many sidecars register at a time.
	together = 32
)

// Grow adds groups until there are n, each with ten Jobs, and returns when all runners are online
// and attached. A group's settings are the defaults, except for min and max.
func (b *Bed) Grow(ctx context.Context, n int) error {
	var added []*Sidecar
	for i := len(b.groups); i < n; i++ {
		group, err := b.addGroup(i, map[string]string{"min": strconv.Itoa(perGroup), "max": strconv.Itoa(2 * perGroup)})
		if err != nil {
			return err
		}
		for range perGroup {
			s, err := b.addJob(group)
			if err != nil {
				return err
			}
			added = append(added, s)
		}
	}
	return b.bring(ctx, added)
}

// AddProbe adds a group with one runner, whose answer to KEDA is 1 while it is idle, and 2 while it
// is busy. It needs a workspace of its own, after those of the groups so far.
func (b *Bed) AddProbe(ctx context.Context) (*Sidecar, error) {
	group, err := b.addGroup(len(b.groups)+perWorkspace-1, map[string]string{"min": "1", "max": "5", "coolDown": "0s"})
	if err != nil {
		return nil, err
	}
	probe, err := b.addJob(group)
	if err != nil {
		return nil, err
	}
	return probe, b.bring(ctx, []*Sidecar{probe})
}

// Pod adds a group with one Job, whose sidecar the caller runs. It returns the environment of the
// sidecar, and what waits for it to be attached.
func (b *Bed) Pod() (environment []string, attached func(context.Context) error, err error) {
	group, err := b.addGroup(len(b.groups), map[string]string{"min": "1"})
	if err != nil {
		return nil, nil, err
	}
	s, err := b.addJob(group)
	if err != nil {
		return nil, nil, err
	}
	shared, token := filepath.Join(b.Dir, "pod"), filepath.Join(b.Dir, "token")
	if err := errors.Join(os.MkdirAll(shared, 0o755), os.WriteFile(token, []byte(s.token), 0o600)); err != nil {
		return nil, nil, fmt.Errorf("the sidecar's files: %w", err)
	}
	environment = []string{
		"SIDECAR_SCALER_ADDRESS=127.0.0.1:" + b.grpcPort, "SIDECAR_DIR=" + shared, "SIDECAR_CA_FILE=" + b.Certificate.File, "SIDECAR_TOKEN_FILE=" + token,
	}
	return environment, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		return b.Attached(ctx, 1)
	}, nil
}

// bring registers runners and attaches their sidecars.
func (b *Bed) bring(ctx context.Context, added []*Sidecar) error {
	coming, bounded := errgroup.WithContext(ctx)
	coming.SetLimit(together)
	for _, s := range added {
		coming.Go(func() error { return s.register(bounded) })
	}
	if err := coming.Wait(); err != nil {
		return err
	}
	for _, s := range added {
		b.running.Go(func() { s.attach(b.life) })
	}
	return b.Attached(ctx, len(b.sidecars))
}

// Attached waits until so many sidecars are attached.
func (b *Bed) Attached(ctx context.Context, n int) error {
	for {
		values, err := b.Scaler().Metrics(ctx)
		if err == nil && int(values["bitbucket_runner_scaler_attached_sidecars"]) >= n {
			return nil
		}
		if !wait(ctx, 200*time.Millisecond) {
			return fmt.Errorf("%v of %d sidecars are attached: %w", values["bitbucket_runner_scaler_attached_sidecars"], n, ctx.Err())
		}
	}
}

func (b *Bed) addGroup(i int, settings map[string]string) (Group, error) {
	workspace := "acme"
	if i >= perWorkspace {
		workspace += "-" + strconv.Itoa(i/perWorkspace+1)
	}
	name := fmt.Sprintf("group-%03d", i)
	metadata := map[string]any{"workspace": workspace, "labels": strings.ReplaceAll(name, "-", "."), "scalerAddress": scalerAddress}
	asked := map[string]string{}
	for key, value := range settings {
		metadata[key] = value
	}
	for key, value := range metadata {
		asked[key] = fmt.Sprint(value)
	}
	object := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledJob",
		"metadata": map[string]any{"namespace": runners, "name": name, "uid": uuid.NewString(), "generation": int64(1), "creationTimestamp": time.Now().UTC().Format(time.RFC3339)},
		"spec": map[string]any{
			"pollingInterval": int64(5), "maxReplicaCount": int64(2 * perGroup), "jobTargetRef": map[string]any{"template": runtime.DeepCopyJSON(b.plainTemplate)},
			"triggers": []any{map[string]any{"type": "external", "metadata": metadata}},
		},
	}}
	if err := b.api.Add(apiserver.ScaledJobs, object); err != nil {
		return Group{}, err
	}
	group := Group{UID: string(object.GetUID()), Ref: &pb.ScaledObjectRef{Namespace: runners, Name: name, ScalerMetadata: asked}}
	b.groups = append(b.groups, group)
	return group, nil
}

// addJob adds a Job with its pod and the pod's token.
func (b *Bed) addJob(group Group) (*Sidecar, error) {
	now := metav1.NewTime(time.Now().Truncate(time.Second))
	name := group.Ref.GetName() + "-" + uuid.NewString()[:5]
	job := &batchv1.Job{TypeMeta: metav1.TypeMeta{APIVersion: "batch/v1", Kind: "Job"}, ObjectMeta: metav1.ObjectMeta{
		Namespace: runners, Name: name, UID: types.UID(uuid.NewString()), CreationTimestamp: now,
		Labels: map[string]string{"scaledjob.keda.sh/name": group.Ref.GetName()}, Annotations: map[string]string{"scaledjob.keda.sh/generation": "1"},
		OwnerReferences: []metav1.OwnerReference{{APIVersion: "keda.sh/v1alpha1", Kind: "ScaledJob", Name: group.Ref.GetName(), UID: types.UID(group.UID), Controller: ptr.To(true)}},
	}}
	job.Spec.Template = *b.template.DeepCopy()
	running := corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}}
	pod := &corev1.Pod{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: runners, Name: name + "-" + uuid.NewString()[:5], UID: types.UID(uuid.NewString()), CreationTimestamp: now, Labels: job.Labels,
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "batch/v1", Kind: "Job", Name: name, UID: job.UID, Controller: ptr.To(true)}},
		},
		Spec: job.Spec.Template.Spec,
		Status: corev1.PodStatus{
			Phase:                 corev1.PodRunning,
			Conditions:            []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: now}},
			InitContainerStatuses: []corev1.ContainerStatus{{Name: "sidecar", State: running}, {Name: "docker", State: running}},
			ContainerStatuses:     []corev1.ContainerStatus{{Name: "runner", State: running}},
		},
	}
	pod.Spec.NodeName = "node"
	token, err := newToken()
	if err != nil {
		return nil, err
	}
	b.api.Admit(token, apiserver.Pod{Namespace: runners, Name: pod.Name, UID: string(pod.UID)})
	if err := b.api.Add(apiserver.Jobs, job); err != nil {
		return nil, err
	}
	if err := b.api.Add(apiserver.Pods, pod); err != nil {
		return nil, err
	}
	s, err := b.newSidecar(len(b.sidecars), group, token)
	if err == nil {
		b.sidecars = append(b.sidecars, s)
	}
	return s, err
}

// newToken makes what looks like a ServiceAccount token of about its usual length.
func newToken() (string, error) {
	signature := make([]byte, 64)
	if _, err := rand.Read(signature); err != nil {
		return "", fmt.Errorf("make a token: %w", err)
	}
	claims, err := json.Marshal(map[string]any{"aud": []string{runnerv1.Audience}, "exp": time.Now().Add(12 * time.Hour).Unix(), "pad": strings.Repeat("x", 500)})
	if err != nil {
		return "", fmt.Errorf("make a token: %w", err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	return encode([]byte(`{"alg":"EdDSA"}`)) + "." + encode(claims) + "." + encode(signature), nil
}

// Work has the runners of these sidecars run steps until ctx ends: each takes twice as long as the
// time until the next one, which is this long on average.
func (b *Bed) Work(ctx context.Context, sidecars []*Sidecar, idle time.Duration) {
	var working sync.WaitGroup
	for _, s := range sidecars {
		working.Go(func() {
			for wait(ctx, time.Duration(mathrand.ExpFloat64()*float64(idle))) { //nolint:gosec // spreads load
				_, err := s.Begin(ctx, "{"+uuid.NewString()+"}")
				if err != nil || !wait(ctx, time.Duration(mathrand.ExpFloat64()*float64(2*idle))) || s.Finish(ctx) != nil { //nolint:gosec // spreads load
					return // at the end calls fail
				}
			}
		})
	}
	working.Wait()
}
