package suite

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bitbucket-runner-scaler/bitbucket/emulator"
)

const secretVariable = "OAUTH_CLIENT_SECRET="

func TestRunnersSecretIsOnlyInItsOwnEnvironment(t *testing.T) {
	t.Parallel()
	group(t, "secret", map[string]string{"min": "2", "max": "4"})
	untilOnline(t, "secret", 2, 0)
	secrets := handedOut(t, "secret")
	if len(secrets) != 2 {
		t.Fatalf("%d secrets of 2 runners found", len(secrets))
	}
	steps := queue(t, "secret", 2, "5s")
	search(t, secrets)
	untilPassed(t, steps)
	var p []corev1.Pod
	until(t, "the runners that the steps brought to be gone", func() (bool, error) {
		p = slices.DeleteFunc(pods(t, "secret"), func(pod corev1.Pod) bool {
			return pod.Status.Phase != corev1.PodRunning || pod.DeletionTimestamp != nil
		})
		all, _ := online(t, "secret")
		return all == 2 && len(p) == 2, nil
	})
	// A killed process logs more than one that is stopped in order.
	processOf(t, string(p[0].UID), "/sidecar", "run").kill(t)
	processOf(t, string(p[1].UID), "/bitbucket-emulator", "runner").kill(t)
	until(t, "the killed runner's place to be taken", func() (bool, error) {
		others := slices.DeleteFunc(pods(t, "secret"), func(pod corev1.Pod) bool {
			return pod.Name == p[1].Name || pod.Status.Phase != corev1.PodRunning
		})
		all, _ := online(t, "secret")
		return all >= 2 && len(others) >= 2, nil // with a new pod, or one that had been waiting for the node
	})
	search(t, append(secrets, handedOut(t, "secret")...))
}

// handedOut reads the secrets of a group's runners from the environments of their
// processes.
func handedOut(t *testing.T, group string) [][]byte {
	t.Helper()
	var ours []string
	for _, pod := range pods(t, group) {
		ours = append(ours, string(pod.UID))
	}
	var secrets [][]byte
	for _, p := range processes(t) {
		if !p.is("/bitbucket-emulator", "runner") || !slices.Contains(ours, p.pod) {
			continue
		}
		for variable := range bytes.SplitSeq(p.environment, []byte{0}) {
			if value, ok := bytes.CutPrefix(variable, []byte(secretVariable)); ok && len(value) > 0 {
				secrets = append(secrets, value)
			}
		}
	}
	return secrets
}

// search looks for the secrets, and for the control plane's own, wherever they
// must not be.
func search(t *testing.T, secrets [][]byte) {
	t.Helper()
	all := append(slices.Clone(secrets), []byte(emulator.OAuthClientSecret))
	searchProcesses(t, secrets)
	// What every line of the control plane, the sidecars and the runners came to,
	// also of pods that are gone; the cluster's own components too.
	read := searchFiles(t, all, filepath.Join(shared.node, "podlogs"), "registration")
	read += searchFiles(t, all, filepath.Join(shared.node, "logs"), "")
	read += searchFiles(t, secrets, filepath.Join(shared.node, "kubelet", "pods"), "")
	for _, path := range []string{"/metrics", "/status"} {
		read += searchReplicas(t, all, path)
	}
	read += searchAPI(t, secrets)
	t.Logf("%d MiB searched", read>>20)
}

func searchProcesses(t *testing.T, secrets [][]byte) {
	t.Helper()
	for _, p := range processes(t) {
		runner := p.is("/bitbucket-emulator", "runner")
		for _, secret := range secrets {
			if bytes.Contains(p.environment, secret) && !runner || strings.Contains(strings.Join(p.args, " "), string(secret)) {
				t.Errorf("process %q holds a runner's secret", p.args)
			}
		}
	}
}

// searchFiles searches all files below a directory. One of them must contain the witness,
// which proves that it is the right directory.
func searchFiles(t *testing.T, secrets [][]byte, folder, witness string) (read int) {
	t.Helper()
	witnessed := false
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return ignoreGone(err)
		}
		content, err := os.ReadFile(path)
		read += len(content)
		witnessed = witnessed || bytes.Contains(content, []byte(witness))
		for _, secret := range secrets {
			if bytes.Contains(content, secret) {
				t.Errorf("%s holds a secret", path)
			}
		}
		return ignoreGone(err)
	})
	if err != nil || !witnessed {
		t.Errorf("%s: %d bytes read, %q found: %v, %v", folder, read, witness, witnessed, err)
	}
	return read
}

// ignoreGone ignores files that were deleted during the search.
func ignoreGone(err error) error {
	if os.IsNotExist(err) {
		return nil
	}
	return err
}

func searchReplicas(t *testing.T, secrets [][]byte, path string) (read int) {
	t.Helper()
	all, _ := replicas(t)
	for _, pod := range all {
		if pod.Status.PodIP == "" || pod.DeletionTimestamp != nil {
			continue
		}
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("http://%s:8080%s", pod.Status.PodIP, path), nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil || response.StatusCode != http.StatusOK {
			t.Errorf("%s of %s: %s, %v", path, pod.Name, response.Status, err)
		}
		read += len(content)
		for _, secret := range secrets {
			if bytes.Contains(content, secret) {
				t.Errorf("%s of %s holds a secret", path, pod.Name)
			}
		}
	}
	return read
}

// searchAPI searches every object that the API server can list, including Secrets and
// Events.
func searchAPI(t *testing.T, secrets [][]byte) (read int) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	_, lists, err := shared.client.Discovery().ServerGroupsAndResources()
	if err != nil && len(lists) == 0 {
		t.Fatal(err)
	}
	seen := 0
	for _, list := range lists {
		root := "/apis/" + list.GroupVersion
		if list.GroupVersion == "v1" {
			root = "/api/v1"
		}
		for _, resource := range list.APIResources {
			if !slices.Contains(resource.Verbs, "list") {
				continue
			}
			content, err := shared.client.Discovery().RESTClient().Get().AbsPath(root, resource.Name).VersionedParams(&metav1.ListOptions{}, metav1.ParameterCodec).DoRaw(ctx)
			if err != nil {
				t.Logf("%s/%s: %v", root, resource.Name, err)
				continue
			}
			seen++
			read += len(content)
			for _, secret := range secrets {
				if bytes.Contains(content, secret) {
					t.Errorf("%s/%s holds a runner's secret", root, resource.Name)
				}
			}
		}
	}
	if seen < 20 {
		t.Errorf("%d kinds of objects searched, want at least 20", seen)
	}
	return read
}
