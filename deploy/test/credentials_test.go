package deploytest

import (
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/credentials"
	"bitbucket-runner-scaler/jobfactory/config"
)

// mounted lays an installation's Secrets out as the kubelet mounts them into the
// scaler's pod, and gives the folder of --credentials-dir.
func mounted(t *testing.T, all objects) string {
	t.Helper()
	root := t.TempDir()
	spec := as[appsv1.Deployment](t, all, "Deployment "+controlPlane+"/"+name).Spec.Template.Spec
	secrets := map[string]string{} // by volume
	for _, volume := range spec.Volumes {
		if volume.Secret != nil {
			secrets[volume.Name] = volume.Secret.SecretName
		}
	}
	for _, mount := range spec.Containers[0].VolumeMounts {
		key := "Secret " + controlPlane + "/" + secrets[mount.Name]
		if _, ok := all[key]; !ok {
			continue // made by hand, or by the scaler itself
		}
		dir := filepath.Join(root, mount.MountPath)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for file, value := range as[corev1.Secret](t, all, key).Data {
			if err := os.WriteFile(filepath.Join(dir, file), value, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	const flag = "--credentials-dir="
	for _, arg := range spec.Containers[0].Args {
		if dir, ok := strings.CutPrefix(arg, flag); ok {
			return filepath.Join(root, dir)
		}
	}
	t.Fatalf("no %s among %q", flag, spec.Containers[0].Args)
	return ""
}

// store reads the credentials as the scaler does, and remembers their kinds.
func store(t *testing.T, all objects) (*credentials.Store, map[string]bitbucket.Kind) {
	t.Helper()
	kinds := map[string]bitbucket.Kind{}
	none := func(string) (string, bool) { return "", false }
	return credentials.NewStore(mounted(t, all), none, func(set string, c bitbucket.Credentials) (*bitbucket.Client, error) {
		kinds[set] = c.Kind()
		return bitbucket.NewClient(bitbucket.Config{Credentials: c})
	}), kinds
}

func TestTheScalerFindsTheCredentialsOfEachOverlay(t *testing.T) {
	for overlay, want := range map[string]bitbucket.Kind{
		"oauth-consumer": bitbucket.KindOAuthConsumer,
		"api-token":      bitbucket.KindAPIToken,
		"access-token":   bitbucket.KindAccessToken,
	} {
		for way, all := range map[string]objects{"overlay": kustomized(t, "overlays/"+overlay), "chart": chartedFor(t, overlay)} {
			t.Run(overlay+" by "+way, func(t *testing.T) {
				store, kinds := store(t, all)
				if _, err := store.Client(credentials.Default, runners); err != nil {
					t.Fatal(err)
				}
				if kinds[credentials.Default] != want {
					t.Errorf("taken for %q, want %q", kinds[credentials.Default], want)
				}
				if _, err := store.Client(credentials.Default, "another"); !errors.Is(err, credentials.ErrForbidden) {
					t.Errorf("from another namespace: %v, want %v", err, credentials.ErrForbidden)
				}
			})
		}
	}
}

func TestATeamsCredentialsServeItsNamespaceAlone(t *testing.T) {
	for way, all := range map[string]objects{"overlay": kustomized(t, "overlays/many-workspaces"), "chart": chartedFor(t, "many-workspaces")} {
		t.Run(way, func(t *testing.T) {
			store, _ := store(t, all)
			for _, set := range []string{"team-a", "team-b", credentials.Default} {
				for _, namespace := range []string{"team-a", "team-b", runners, controlPlane} {
					_, err := store.Client(set, namespace)
					if allowed := err == nil; allowed != (set == namespace) {
						t.Errorf("set %s from namespace %s: %v", set, namespace, err)
					}
				}
			}
		})
	}
}

func TestTheTeamsGroupsMayUseTheirCredentials(t *testing.T) {
	text, err := os.ReadFile("../overlays/many-workspaces/runners_config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	content, err := config.Read(text)
	if err != nil {
		t.Fatal(err)
	}
	store, _ := store(t, kustomized(t, "overlays/many-workspaces"))
	for _, group := range content.Groups {
		if _, err := store.Client(group.Group.Credentials, group.Namespace); err != nil {
			t.Errorf("group %s/%s: %v", group.Namespace, group.Name, err)
		}
	}
	if len(content.Groups) != 2 {
		t.Errorf("%d groups, want one a team", len(content.Groups))
	}
}

func TestNoSecretIsShippedInAnyManifest(t *testing.T) {
	for installation, all := range everyInstallation(t) {
		for key, fields := range all {
			data, _ := fields["data"].(object)
			if fields["kind"] != "Secret" {
				continue
			}
			for file, encoded := range data {
				value, err := base64.StdEncoding.DecodeString(encoded.(string))
				if err != nil || file != "namespaces" && string(value) != "EDIT" {
					t.Errorf("%s: %s: %s is %q: %v", installation, key, file, value, err)
				}
			}
		}
	}
}
