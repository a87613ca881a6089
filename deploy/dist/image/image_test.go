package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	helm "helm.sh/helm/v3/pkg/registry"

	"bitbucket-runner-scaler/deploy/dist/archive"
	"bitbucket-runner-scaler/deploy/dist/program"
)

var (
	amd64 = program.Platform{OS: "linux", Arch: "amd64"}
	arm64 = program.Platform{OS: "linux", Arch: "arm64"}
)

func example(repository string) (Image, map[program.Platform][]archive.Entry) {
	i := Image{
		Title: "scaler", Description: "d", Entrypoint: "/scaler", User: "65532:65532", Repository: repository, Homepage: "https://example.com",
		Version: "v1.2.3", Commit: strings.Repeat("a", 40), Date: time.Date(2026, 11, 26, 12, 0, 0, 0, time.FixedZone("", 3600)),
	}
	return i, map[program.Platform][]archive.Entry{
		amd64: {{Name: "scaler", Mode: 0o755, Content: []byte("for amd64")}},
		arm64: {{Name: "scaler", Mode: 0o755, Content: []byte("for arm64")}},
	}
}

// written returns the path of an archive with the example.
func written(t *testing.T, repository string) string {
	t.Helper()
	i, files := example(repository)
	index, err := i.Index(files)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "image.tar")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if err := i.Archive(f, index); err != nil {
		t.Fatal(err)
	}
	return path
}

func opened(t *testing.T, path string) (v1.ImageIndex, name.Tag) {
	t.Helper()
	dir := t.TempDir()
	if err := unpack(path, dir); err != nil {
		t.Fatal(err)
	}
	index, reference, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return index, reference
}

func TestAnArchiveHasAnImageForEachPlatformThatIsValid(t *testing.T) {
	index, reference := opened(t, written(t, "registry.example.com/scaler"))
	if reference.String() != "registry.example.com/scaler:v1.2.3" {
		t.Errorf("reference %s", reference)
	}
	if err := validate.Index(index); err != nil {
		t.Error(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if manifest.MediaType != types.OCIImageIndex || len(manifest.Manifests) != 2 || manifest.Annotations["org.opencontainers.image.revision"] != strings.Repeat("a", 40) {
		t.Fatalf("index %+v", manifest)
	}
	for n, arch := range []string{"amd64", "arm64"} {
		if kind := manifest.Manifests[n].ArtifactType; kind != "" {
			t.Errorf("the entry for %s has the artifactType %s, but it is no artifact", arch, kind)
		}
		made, err := index.Image(manifest.Manifests[n].Digest)
		if err != nil {
			t.Fatal(err)
		}
		checkImage(t, made, manifest.Manifests[n].Platform, arch)
	}
}

func checkImage(t *testing.T, made v1.Image, platform *v1.Platform, arch string) {
	t.Helper()
	config, err := made.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := made.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	if platform.String() != "linux/"+arch || config.Platform().String() != "linux/"+arch {
		t.Errorf("platforms %v and %v, want linux/%s", platform, config.Platform(), arch)
	}
	if manifest.MediaType != types.OCIManifestSchema1 || manifest.Config.MediaType != types.OCIConfigJSON || manifest.Layers[0].MediaType != types.OCILayer {
		t.Errorf("media types of %+v, want OCI's", manifest)
	}
	if !slices.Equal(config.Config.Entrypoint, []string{"/scaler"}) || config.Config.User != "65532:65532" {
		t.Errorf("configuration %+v", config.Config)
	}
	for _, labels := range []map[string]string{config.Config.Labels, manifest.Annotations} {
		if labels["org.opencontainers.image.version"] != "v1.2.3" || labels["org.opencontainers.image.created"] != "2026-11-26T11:00:00Z" || labels["org.opencontainers.image.licenses"] != "Apache-2.0" || len(labels) != 9 {
			t.Errorf("labels %v", labels)
		}
	}
	layers, err := made.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("%d layers, %v, want one", len(layers), err)
	}
	content, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	r := tar.NewReader(content)
	header, err := r.Next()
	if err != nil || header.Name != "scaler" || header.Mode != 0o755 {
		t.Fatalf("file %+v, %v", header, err)
	}
	if text, err := io.ReadAll(r); err != nil || string(text) != "for "+arch {
		t.Errorf("content %q, %v", text, err)
	}
}

func TestTwoArchivesOfAnImageAreTheSame(t *testing.T) {
	first, err := os.ReadFile(written(t, "registry.example.com/scaler"))
	if err != nil {
		t.Fatal(err)
	}
	second, err := os.ReadFile(written(t, "registry.example.com/scaler"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, second) {
		t.Error("they differ")
	}
}

// The digest in chart and manifests is that of the index in the archive: what is pushed must be that.
func TestAPushedImageHasTheDigestOfTheArchive(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	path := written(t, host+"/acme/scaler")
	index, _ := opened(t, path)
	want, err := index.Digest()
	if err != nil {
		t.Fatal(err)
	}
	got, err := Push(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != host+"/acme/scaler@"+want.String() {
		t.Errorf("pushed %s, want %s", got, want)
	}
	tag, err := name.NewTag(host + "/acme/scaler:v1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	pulled, err := remote.Index(tag)
	if err != nil {
		t.Fatal(err)
	}
	if digest, err := pulled.Digest(); err != nil || digest != want {
		t.Errorf("pulled %s, %v, want %s", digest, err, want)
	}
	if err := validate.Index(pulled); err != nil {
		t.Error(err)
	}
}

func TestHelmPullsAChartThatWasPushed(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	repository := strings.TrimPrefix(server.URL, "http://") + "/charts"
	metadata := map[string]any{"apiVersion": "v2", "name": "a-chart", "version": "1.2.3"}
	var content bytes.Buffer
	err := archive.WriteTarGz(&content, time.Unix(0, 0), []archive.Entry{{Name: "a-chart/Chart.yaml", Mode: 0o644, Content: []byte("apiVersion: v2\nname: a-chart\nversion: 1.2.3\n")}})
	if err != nil {
		t.Fatal(err)
	}
	pushed, err := PushChart(t.Context(), repository, metadata, content.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	client, err := helm.NewClient(helm.ClientOptPlainHTTP(), helm.ClientOptWriter(io.Discard), helm.ClientOptCredentialsFile(filepath.Join(t.TempDir(), "none.json")))
	if err != nil {
		t.Fatal(err)
	}
	pulled, err := client.Pull(repository + "/a-chart:1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(pulled.Chart.Data, content.Bytes()) || pulled.Chart.Meta.Name != "a-chart" || pulled.Manifest.Digest != pushed.DigestStr() {
		t.Errorf("pulled %+v, want %s", pulled.Manifest, pushed)
	}
}

func TestARepositoryWithoutARegistryIsRefused(t *testing.T) {
	for _, repository := range []string{"", "scaler", "acme/scaler", "registry.example.com/Scaler", "https://registry.example.com/scaler"} {
		if _, err := Repository(repository); err == nil || !strings.Contains(err.Error(), "want REGISTRY/NAME") {
			t.Errorf("%q: %v, want an error that says what is accepted", repository, err)
		}
	}
}

func TestAnArchiveThatLeavesItsDirectoryIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bad.tar")
	var content bytes.Buffer
	if err := archive.WriteTar(&content, time.Unix(0, 0), []archive.Entry{{Name: "../outside", Mode: 0o644}}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "inside")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unpack(path, dir); err == nil {
		t.Error("no error")
	}
	if _, err := os.Stat(filepath.Join(dir, "..", "outside")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file outside: %v", err)
	}
}
