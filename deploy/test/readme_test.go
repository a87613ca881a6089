package deploytest

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"bitbucket-runner-scaler/jobfactory"
	"bitbucket-runner-scaler/jobfactory/config"
)

func readme(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestTheReadmesConfigurationsAreTaken(t *testing.T) {
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(readme(t), -1)
	if len(blocks) != 3 {
		t.Fatalf("%d blocks, want the overlay's, the chart's and the groups'", len(blocks))
	}
	for _, block := range blocks {
		if strings.HasPrefix(block[1], "image:") {
			if _, _, err := charted(controlPlane, parsed(t, block[1])); err != nil {
				t.Error(err)
			}
			continue
		}
		if strings.HasPrefix(block[1], "groups:") {
			content, err := config.Read([]byte(block[1]))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := jobfactory.Manifests(content.Groups); err != nil {
				t.Error(err)
			}
			continue
		}
		all := inOwnFolder(t, block[1])
		typed(t, all)
		image := flat(all["Deployment "+controlPlane+"/"+name])
		if !strings.Contains(image, "image: registry.example.com/bitbucket-runner-scaler:v1") {
			t.Errorf("the scaler's image is another:\n%s", image)
		}
		sidecar := flat(all["ScaledJob "+runners+"/builds"])
		if !strings.Contains(sidecar, "image: registry.example.com/bitbucket-runner-scaler:v1") {
			t.Errorf("the sidecar's image is another:\n%s", sidecar)
		}
	}
}

// inOwnFolder renders a kustomization in a folder beside deploy/, without writing
// into the repository.
func inOwnFolder(t *testing.T, kustomization string) objects {
	t.Helper()
	return inFolders(t, map[string]string{"/overlay/kustomization.yaml": kustomization})
}

// inFolders renders /overlay, with further files beside deploy/.
func inFolders(t *testing.T, files map[string]string) objects {
	t.Helper()
	memory := filesys.MakeFsInMemory()
	for _, dir := range []string{"base", "examples", "overlays", "components", "chart/monitoring"} {
		err := filepath.WalkDir(filepath.Join("..", dir), func(path string, entry os.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return memory.WriteFile(filepath.Join("/deploy", strings.TrimPrefix(path, "..")), text)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for path, text := range files {
		if err := memory.WriteFile(path, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	rendered, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(memory, "/overlay")
	if err != nil {
		t.Fatal(err)
	}
	text, err := rendered.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	found := objects{}
	if err := found.add(text); err != nil {
		t.Fatal(err)
	}
	return found
}

func TestTheReadmeNamesWhatIsThere(t *testing.T) {
	text := readme(t)
	for _, path := range regexp.MustCompile(`\b(?:deploy/)?(?:overlays|components|chart|examples)/?[a-z-]*`).FindAllString(text, -1) {
		path = strings.TrimPrefix(path, "deploy/")
		if !strings.Contains(path, "/") {
			continue // a word
		}
		if _, err := os.Stat(filepath.Join("..", path)); err != nil {
			t.Error(err)
		}
	}
	for _, overlay := range overlays(t) {
		if !strings.Contains(text, "`overlays/"+overlay+"`") {
			t.Errorf("overlay %s is not told of", overlay)
		}
	}
}
