package image

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// The media types of a chart in a registry, as Helm has them.
const (
	chartConfig  types.MediaType = "application/vnd.cncf.helm.config.v1+json"
	chartContent types.MediaType = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
)

// Push pushes the image of an archive to the reference that the archive names, with the
// credentials of `docker login`. It returns the reference by digest.
func Push(ctx context.Context, file string) (name.Digest, error) {
	dir, err := os.MkdirTemp("", "image-")
	if err != nil {
		return name.Digest{}, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := unpack(file, dir); err != nil {
		return name.Digest{}, fmt.Errorf("unpack %s: %w", file, err)
	}
	index, reference, err := Open(dir)
	if err != nil {
		return name.Digest{}, fmt.Errorf("image %s: %w", file, err)
	}
	if err := remote.WriteIndex(reference, index, remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain)); err != nil {
		return name.Digest{}, fmt.Errorf("push %s to %s: %w", file, reference, err)
	}
	digest, err := index.Digest()
	if err != nil {
		return name.Digest{}, err
	}
	return reference.Digest(digest.String()), nil
}

// Open returns the image of an unpacked archive, and its reference.
func Open(dir string) (v1.ImageIndex, name.Tag, error) {
	all, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, name.Tag{}, err
	}
	manifest, err := all.IndexManifest()
	if err != nil {
		return nil, name.Tag{}, err
	}
	if len(manifest.Manifests) != 1 {
		return nil, name.Tag{}, fmt.Errorf("the layout has %d images, want one", len(manifest.Manifests))
	}
	reference, err := name.NewTag(manifest.Manifests[0].Annotations["io.containerd.image.name"], name.StrictValidation)
	if err != nil {
		return nil, name.Tag{}, err
	}
	index, err := all.ImageIndex(manifest.Manifests[0].Digest)
	return index, reference, err
}

// unpack unpacks an archive that we wrote into dir, and nowhere else.
func unpack(file, dir string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	for r := tar.NewReader(f); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if !filepath.IsLocal(header.Name) {
			return fmt.Errorf("entry %q leaves the archive", header.Name)
		}
		path := filepath.Join(dir, filepath.FromSlash(header.Name)) //nolint:gosec // it is local
		if header.Typeflag == tar.TypeDir {
			err = os.MkdirAll(path, 0o755)
		} else {
			err = write(path, r)
		}
		if err != nil {
			return err
		}
	}
}

func write(path string, from io.Reader) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, from); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}

// PushChart pushes a packaged chart to REPOSITORY/NAME, as `helm push` does. metadata is what the
// chart's Chart.yaml says.
func PushChart(ctx context.Context, repository string, metadata map[string]any, content []byte) (name.Digest, error) {
	title, _ := metadata["name"].(string)
	version, _ := metadata["version"].(string)
	parsed, err := Repository(repository + "/" + title)
	if err != nil {
		return name.Digest{}, err
	}
	chart, err := chartImage(metadata, content)
	if err != nil {
		return name.Digest{}, fmt.Errorf("chart %s %s: %w", title, version, err)
	}
	reference := parsed.Tag(version)
	if err := remote.Write(reference, chart, remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain)); err != nil {
		return name.Digest{}, fmt.Errorf("push the chart to %s: %w", reference, err)
	}
	digest, err := chart.Digest()
	if err != nil {
		return name.Digest{}, err
	}
	return reference.Digest(digest.String()), nil
}

// chartImage returns a chart as what registries store: its metadata is the configuration, its
// archive the only layer.
func chartImage(metadata map[string]any, content []byte) (v1.Image, error) {
	config, err := json.Marshal(metadata)
	if err != nil {
		return nil, err
	}
	made, err := mutate.AppendLayers(mutate.MediaType(empty.Image, types.OCIManifestSchema1), static.NewLayer(content, chartContent))
	if err != nil {
		return nil, err
	}
	return &artifact{Image: made, config: config}, nil
}
