package suite

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	authenticationv1 "k8s.io/api/authentication/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"bitbucket-runner-scaler/e2e/installation"
	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

const (
	audience = "bitbucket-runner-scaler"
	account  = "bitbucket-runner" // the runners' ServiceAccount
)

func TestPodRegistersOnlyItsOwnRunnerAndOnlyOnce(t *testing.T) {
	t.Parallel()
	group(t, "identity", map[string]string{"min": "1", "max": "5"})
	untilOnline(t, "identity", 1, 0)
	own := pods(t, "identity")[0]
	foreign, ofForeignJob := intruders(t, own)
	stranger := idlePod(t, installation.Runners, "identity-stranger", nil)
	passing := idlePod(t, installation.Runners, "identity-passing", nil)
	gone := token(t, passing, audience)
	deletePod(t, passing)

	before := uuids(t, "identity")
	client := runnerv1.NewRunnerServiceClient(dial(t))
	for name, c := range map[string]struct {
		token   string
		code    codes.Code
		outcome string
	}{
		"a second time":                {token(t, own, audience), codes.FailedPrecondition, "runner_exists"},
		"a pod that no ScaledJob owns": {token(t, stranger, audience), codes.NotFound, "no_group"},
		"a pod elsewhere that names the group's Job as its owner":            {token(t, foreign, audience), codes.NotFound, "no_group"},
		"a pod of a Job elsewhere that names the group's ScaledJob as owner": {token(t, ofForeignJob, audience), codes.NotFound, "no_group"},
		"no token":                        {"", codes.Unauthenticated, "unauthenticated"},
		"no token at all":                 {"not.a.token", codes.Unauthenticated, "unauthenticated"},
		"a token of another audience":     {token(t, own, "https://kubernetes.default.svc.cluster.local"), codes.Unauthenticated, "unauthenticated"},
		"a token that is bound to no pod": {token(t, corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: installation.Runners}}, audience), codes.Unauthenticated, "unauthenticated"},
		"a token of a deleted pod":        {gone, codes.Unauthenticated, "unauthenticated"},
		"an expired token":                {signed(t, token(t, own, audience), -time.Minute), codes.Unauthenticated, "unauthenticated"},
		// This proves that the previous case is refused only because of its time.
		"the same, not expired": {signed(t, token(t, own, audience), time.Hour), codes.FailedPrecondition, "runner_exists"},
	} {
		t.Run(name, func(t *testing.T) {
			counted := registrations(t, c.outcome)
			_, err := client.Register(bearing(t.Context(), c.token), &runnerv1.RegisterRequest{SidecarVersion: "e2e"})
			if status.Code(err) != c.code {
				t.Errorf("got %v, want %s", err, c.code)
			}
			if now := registrations(t, c.outcome); now <= counted {
				t.Errorf("%s counted %v, %v before", c.outcome, now, counted)
			}
		})
	}
	t.Run("another pod's runner is not taken away", func(t *testing.T) {
		_, err := client.Deregister(bearing(t.Context(), token(t, stranger, audience)), &runnerv1.DeregisterRequest{RunnerUuid: runners(t, "identity")[0].UUID})
		if err != nil {
			t.Logf("refused with %v", err)
		}
	})
	if after := uuids(t, "identity"); after != before {
		t.Errorf("runners %s, %s before", after, before)
	}
	untilPassed(t, queue(t, "identity", 1, "1s"))
}

// held protects an object whose owner is in another namespace from garbage collection.
var held = []string{"e2e.local/hold"}

// intruders makes a namespace with two pods that claim to belong to own's group. One is
// owned by own's Job, and one by a Job that is owned by its ScaledJob.
func intruders(t *testing.T, own corev1.Pod) (direct, indirect corev1.Pod) {
	t.Helper()
	const namespace = "intruders"
	ctx, core := t.Context(), shared.client.CoreV1()
	if _, err := core.Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := core.Namespaces().Delete(context.WithoutCancel(ctx), namespace, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	if _, err := core.ServiceAccounts(namespace).Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: account}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	model, err := shared.client.BatchV1().Jobs(own.Namespace).Get(ctx, own.OwnerReferences[0].Name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	jobs := shared.client.BatchV1().Jobs(namespace)
	job, err := jobs.Create(ctx, &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{
			Name: "identity-job", Labels: model.Labels, Annotations: model.Annotations, OwnerReferences: model.OwnerReferences, Finalizers: held,
		},
		Spec: batchv1.JobSpec{Suspend: new(true), Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "none", Image: "e2e.local/pause:1"}},
		}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, err := jobs.Patch(context.WithoutCancel(ctx), job.Name, types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
		if err != nil && !isGone(err) {
			t.Error(err)
		}
	})
	claim := func(name string, owners []metav1.OwnerReference) corev1.Pod {
		return idlePod(t, namespace, name, func(pod *corev1.Pod) {
			pod.Labels, pod.OwnerReferences, pod.Finalizers = own.Labels, owners, held
		})
	}
	direct = claim("identity-direct", own.OwnerReferences)
	indirect = claim("identity-indirect", []metav1.OwnerReference{*metav1.NewControllerRef(job, batchv1.SchemeGroupVersion.WithKind("Job"))})
	return direct, indirect
}

// idlePod makes a pod that no node runs.
func idlePod(t *testing.T, namespace, name string, edit func(*corev1.Pod)) corev1.Pod {
	t.Helper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: corev1.PodSpec{
			ServiceAccountName: account,
			NodeSelector:       map[string]string{"no": "such-node"},
			Containers:         []corev1.Container{{Name: "none", Image: "e2e.local/pause:1"}},
		},
	}
	if edit != nil {
		edit(pod)
	}
	made, err := shared.client.CoreV1().Pods(namespace).Create(t.Context(), pod, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { deletePod(t, *made) })
	return *made
}

// deletePod deletes a pod that no node runs.
func deletePod(t *testing.T, pod corev1.Pod) {
	t.Helper()
	ctx, client := context.WithoutCancel(t.Context()), shared.client.CoreV1().Pods(pod.Namespace)
	if len(pod.Finalizers) > 0 {
		if _, err := client.Patch(ctx, pod.Name, types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{}); err != nil && !isGone(err) {
			t.Error(err)
		}
	}
	if err := client.Delete(ctx, pod.Name, metav1.DeleteOptions{}); err != nil && !isGone(err) {
		t.Error(err)
	}
}

// token requests a token as the kubelet does for a pod. If the pod has no name, the token
// is not bound to a pod.
func token(t *testing.T, pod corev1.Pod, audience string) string {
	t.Helper()
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Audiences: []string{audience}}}
	if pod.Name != "" {
		request.Spec.BoundObjectRef = &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID}
	}
	answer, err := shared.client.CoreV1().ServiceAccounts(pod.Namespace).CreateToken(t.Context(), account, request, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return answer.Status.Token
}

// signed changes the expiry in a token's claims and signs them with the cluster's key,
// because the API server issues no token that is valid for less than ten minutes.
func signed(t *testing.T, token string, lives time.Duration) string {
	t.Helper()
	parts := strings.Split(token, ".")
	claims, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var values map[string]any
	if err := json.Unmarshal(claims, &values); err != nil {
		t.Fatal(err)
	}
	expires := time.Now().Add(lives)
	values["exp"], values["iat"], values["nbf"] = expires.Unix(), expires.Add(-2*time.Hour).Unix(), expires.Add(-2*time.Hour).Unix()
	if claims, err = json.Marshal(values); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(filepath.Join(shared.node, "pki", "sa.key"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(content)
	if block == nil {
		t.Fatal("sa.key: no PEM")
	}
	key, err := x509.ParseECPrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	text := parts[0] + "." + base64.RawURLEncoding.EncodeToString(claims)
	sum := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	signature := make([]byte, 64) // ES256: two numbers of 32 bytes (RFC 7518)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return text + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// bearing adds a token to a call, as a sidecar does.
func bearing(ctx context.Context, token string) context.Context {
	if token == "" {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
}

// registrations returns how many registrations have had an outcome so far.
func registrations(t *testing.T, outcome string) float64 {
	t.Helper()
	return metric(t, fmt.Sprintf("bitbucket_runner_scaler_registrations_total{outcome=%q}", outcome))
}
