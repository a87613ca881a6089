// Package image makes images for several platforms from static programs, without a daemon and
// without a base image, writes them as archives of OCI's layout, and pushes them.
package image

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"bitbucket-runner-scaler/deploy/dist/archive"
	"bitbucket-runner-scaler/deploy/dist/program"
)

// Image says what an image is, apart from its files.
type Image struct {
	Title, Description string
	Entrypoint         string
	User               string // as USER of a Dockerfile; root if empty
	Repository         string // to which it is meant to be pushed
	Homepage           string
	Version, Commit    string
	Date               time.Time
}

// Labels returns the annotations that OCI's image specification defines. An image has them as
// labels too.
func (i Image) Labels() map[string]string {
	return map[string]string{
		"org.opencontainers.image.created":       i.Date.UTC().Format(time.RFC3339),
		"org.opencontainers.image.description":   i.Description,
		"org.opencontainers.image.documentation": i.Homepage,
		"org.opencontainers.image.licenses":      "Apache-2.0",
		"org.opencontainers.image.revision":      i.Commit,
		"org.opencontainers.image.source":        i.Homepage,
		"org.opencontainers.image.title":         i.Title,
		"org.opencontainers.image.url":           i.Homepage,
		"org.opencontainers.image.version":       i.Version,
	}
}

// Reference returns the repository with the version as the tag.
func (i Image) Reference() (name.Tag, error) {
	repository, err := Repository(i.Repository)
	if err != nil {
		return name.Tag{}, err
	}
	return repository.Tag(i.Version), nil
}

// Repository parses a repository, which must name its registry.
func Repository(repository string) (name.Repository, error) {
	parsed, err := name.NewRepository(repository, name.StrictValidation)
	if err == nil && strings.Contains(repository, "://") {
		err = errors.New("a repository is no URL")
	}
	if err != nil {
		return name.Repository{}, fmt.Errorf("repository %q: %w; want REGISTRY/NAME, such as registry.example.com/bitbucket-runner-scaler", repository, err)
	}
	return parsed, nil
}

// Index returns the image with one manifest per platform.
func (i Image) Index(files map[program.Platform][]archive.Entry) (v1.ImageIndex, error) {
	index := v1.ImageIndex(empty.Index)
	for _, on := range slices.SortedFunc(maps.Keys(files), func(a, b program.Platform) int { return strings.Compare(a.String(), b.String()) }) {
		made, err := i.on(on, files[on])
		if err != nil {
			return nil, fmt.Errorf("image %s for %s: %w", i.Title, on, err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: container{made}, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: on.OS, Architecture: on.Arch}}})
	}
	return mutate.Annotations(mutate.IndexMediaType(index, types.OCIImageIndex), i.Labels()).(v1.ImageIndex), nil
}

// container is an image that runs, so its entry in an index has no artifactType; the library would
// write the media type of its configuration.
type container struct{ v1.Image }

// ArtifactType returns none.
func (container) ArtifactType() (string, error) { return "", nil }

// on returns the image for one platform, with one layer.
func (i Image) on(on program.Platform, files []archive.Entry) (v1.Image, error) {
	var content bytes.Buffer
	if err := archive.WriteTar(&content, i.Date, files); err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content.Bytes())), nil },
		tarball.WithMediaType(types.OCILayer), tarball.WithCompressionLevel(gzip.BestCompression), tarball.WithCompressedCaching)
	if err != nil {
		return nil, err
	}
	base, err := mutate.ConfigFile(mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON), &v1.ConfigFile{
		OS: on.OS, Architecture: on.Arch, Created: v1.Time{Time: i.Date.UTC()},
		RootFS: v1.RootFS{Type: "layers"},
		Config: v1.Config{Entrypoint: []string{i.Entrypoint}, User: i.User, WorkingDir: "/", Labels: i.Labels()},
	})
	if err != nil {
		return nil, err
	}
	made, err := mutate.Append(base, mutate.Addendum{Layer: layer, History: v1.History{Created: v1.Time{Time: i.Date.UTC()}, CreatedBy: "make dist", Comment: i.Title + " " + i.Version}})
	if err != nil {
		return nil, err
	}
	return mutate.Annotations(made, i.Labels()).(v1.Image), nil
}

// Archive writes an index as a tar archive of OCI's layout. Tools find the name of the image in
// its annotations: containerd the whole reference, the others the tag.
func (i Image) Archive(to io.Writer, index v1.ImageIndex) error {
	reference, err := i.Reference()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "image-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	err = path.AppendIndex(index, layout.WithAnnotations(map[string]string{
		"io.containerd.image.name":          reference.String(),
		"org.opencontainers.image.ref.name": reference.TagStr(),
	}))
	if err != nil {
		return fmt.Errorf("write the layout of image %s: %w", i.Title, err)
	}
	entries, err := read(dir)
	if err != nil {
		return err
	}
	return archive.WriteTar(to, i.Date, entries)
}

// read returns the files of a directory in the order of their names.
func read(dir string) ([]archive.Entry, error) {
	var entries []archive.Entry
	files := os.DirFS(dir)
	err := fs.WalkDir(files, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == "." {
			return err
		}
		e := archive.Entry{Name: path, Mode: 0o644}
		if d.IsDir() {
			e.Mode = fs.ModeDir | 0o755
		} else if e.Content, err = fs.ReadFile(files, path); err != nil {
			return err
		}
		entries = append(entries, e)
		return nil
	})
	return entries, err
}
