package manifest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// about stands before the rendered manifests.
const about = `# The control plane of bitbucket-runner-scaler %[1]s, for kubectl apply --server-side -f install-%[1]s.yaml.
# It runs in the namespace bitbucket-runner-scaler, and its image is
# %[2]s@%[3]s.
#
# crds: none. The project defines no custom resources. KEDA and its ScaledJobs must be installed.
#
# Credentials are not in here: create the Secret runner-bitbucket-credentials in that namespace.
# Runner groups are not either: runnerctl render writes them.
`

// Install renders the kustomize base in dir with the image of a release.
func Install(dir, version string, image Image) ([]byte, error) {
	files := filesys.MakeFsInMemory()
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		content, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			return nil, err
		}
		if err := files.WriteFile("/base/"+entry.Name(), content); err != nil {
			return nil, err
		}
	}
	overlay, err := yaml.Marshal(types.Kustomization{
		TypeMeta:  types.TypeMeta{APIVersion: types.KustomizationVersion, Kind: types.KustomizationKind},
		Resources: []string{"../base"},
		Images:    []types.Image{{Name: "bitbucket-runner-scaler", NewName: image.Repository, Digest: image.Digest}},
	})
	if err != nil {
		return nil, err
	}
	if err := files.WriteFile("/release/kustomization.yaml", overlay); err != nil {
		return nil, err
	}
	rendered, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(files, "/release")
	if err != nil {
		return nil, fmt.Errorf("render %s: %w", dir, err)
	}
	objects, err := rendered.AsYaml()
	if err != nil {
		return nil, fmt.Errorf("render %s: %w", dir, err)
	}
	reference := []byte(image.Repository + "@" + image.Digest)
	text := fmt.Appendf(nil, about, version, image.Repository, image.Digest)
	if !bytes.Contains(objects, reference) {
		return nil, fmt.Errorf("render %s: it does not have the image %s", dir, reference)
	}
	return append(text, objects...), nil
}
