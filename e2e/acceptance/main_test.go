package acceptance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/restmapper"

	"bitbucket-runner-scaler/e2e/cluster"
	"bitbucket-runner-scaler/e2e/installation"
)

// patience bounds each wait for a condition.
const patience = time.Minute

// shared contains what the tests share.
var shared struct {
	plane   *cluster.ControlPlane
	client  kubernetes.Interface
	dynamic dynamic.Interface
	mapper  meta.RESTMapper
	// root is the repository's directory.
	root     string
	warnings warnings
}

// warnings collects the API server's warnings.
type warnings struct {
	mu  sync.Mutex
	all []string
}

// HandleWarningHeader implements rest.WarningHandler.
func (w *warnings) HandleWarningHeader(_ int, _ string, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, text)
}

// take returns the warnings since the last call, without duplicates.
func (w *warnings) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := w.all
	w.all = nil
	slices.Sort(all)
	return slices.Compact(all)
}

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	dir, err := os.MkdirTemp("", "acceptance-")
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if shared.root, err = installation.Root(); err != nil {
		return 1, err
	}
	if shared.plane, err = cluster.StartControlPlane(context.Background(), dir, os.Stderr); err != nil {
		return 1, err
	}
	defer shared.plane.Close()
	if err := connect(); err != nil {
		return 1, err
	}
	return m.Run(), nil
}

func connect() (err error) {
	config := shared.plane.RESTConfig()
	config.QPS, config.Burst, config.WarningHandler = 400, 800, &shared.warnings
	if shared.client, err = kubernetes.NewForConfig(config); err != nil {
		return err
	}
	if shared.dynamic, err = dynamic.NewForConfig(config); err != nil {
		return err
	}
	found, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return err
	}
	shared.mapper = restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(found))
	return nil
}

// kubectl runs kubectl. A warning fails the test.
func kubectl(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	out, err := shared.plane.Kubectl(context.WithoutCancel(t.Context()), strings.NewReader(stdin), append([]string{"--warnings-as-errors"}, args...)...)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return out
}

// kustomized renders a directory below deploy/.
func kustomized(t *testing.T, dir string) string {
	t.Helper()
	return kubectl(t, "", "kustomize", filepath.Join(shared.root, "deploy", dir))
}

// resource returns the client for objects of a kind.
func resource(kind schema.GroupVersionKind, namespace string) (dynamic.ResourceInterface, error) {
	mapping, err := shared.mapper.RESTMapping(kind.GroupKind(), kind.Version)
	if err != nil {
		return nil, err
	}
	if mapping.Scope.Name() == meta.RESTScopeNameRoot {
		return shared.dynamic.Resource(mapping.Resource), nil
	}
	return shared.dynamic.Resource(mapping.Resource).Namespace(namespace), nil
}

// create creates an object with strict validation. With dry, it is a dry run. It does not
// change an existing object.
func create(ctx context.Context, object *unstructured.Unstructured, dry bool) error {
	at, err := resource(object.GroupVersionKind(), object.GetNamespace())
	if err != nil {
		return err
	}
	options := metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict}
	if dry {
		options.DryRun = []string{metav1.DryRunAll}
	}
	if _, err := at.Create(ctx, object, options); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("%s %s/%s: %w", object.GetKind(), object.GetNamespace(), object.GetName(), err)
	}
	return nil
}

// until waits for a condition. It continues after errors and reports the last one.
func until(t *testing.T, what string, done func() (bool, string)) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		ok, state := done()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited for %s: %s", what, state)
		}
		<-time.After(200 * time.Millisecond)
	}
}
