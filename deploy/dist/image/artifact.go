package image

import (
	"bytes"
	"encoding/json"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// artifact is an image whose configuration is not that of a container.
type artifact struct {
	v1.Image

	config []byte
}

// RawConfigFile returns the configuration as it is stored.
func (a *artifact) RawConfigFile() ([]byte, error) { return a.config, nil }

// ConfigName returns the digest of the configuration.
func (a *artifact) ConfigName() (v1.Hash, error) {
	hash, _, err := v1.SHA256(bytes.NewReader(a.config))
	return hash, err
}

// Manifest returns the manifest, which names the configuration of a chart.
func (a *artifact) Manifest() (*v1.Manifest, error) {
	manifest, err := a.Image.Manifest()
	if err != nil {
		return nil, err
	}
	manifest = manifest.DeepCopy()
	hash, size, err := v1.SHA256(bytes.NewReader(a.config))
	if err != nil {
		return nil, err
	}
	manifest.Config = v1.Descriptor{MediaType: chartConfig, Digest: hash, Size: size}
	return manifest, nil
}

// RawManifest returns the manifest as it is stored.
func (a *artifact) RawManifest() ([]byte, error) {
	manifest, err := a.Manifest()
	if err != nil {
		return nil, err
	}
	return json.Marshal(manifest)
}

// Digest returns the digest of the manifest.
func (a *artifact) Digest() (v1.Hash, error) { return partial.Digest(a) }

// Size returns the size of the manifest.
func (a *artifact) Size() (int64, error) { return partial.Size(a) }

// MediaType returns that of an OCI image.
func (a *artifact) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }
