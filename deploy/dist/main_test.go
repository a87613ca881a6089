package main

import (
	"bytes"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"bitbucket-runner-scaler/deploy/dist/archive"
	"bitbucket-runner-scaler/deploy/dist/image"
	"bitbucket-runner-scaler/deploy/dist/manifest"
	"bitbucket-runner-scaler/deploy/dist/program"
	"bitbucket-runner-scaler/deploy/dist/release"
)

var places = Places{
	Image: "registry.example.org/scaler", Emulator: "registry.example.org/emulator", Charts: "registry.example.org/charts",
	Download: "https://example.org/v1.2.3", Homepage: "https://example.org",
}

func TestThePlacesOfAReleaseAreChecked(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Places)
		want   string // in the error
	}{
		"good":                         {func(*Places) {}, ""},
		"an image without registry":    {func(p *Places) { p.Image = "scaler" }, `-image-repository: repository "scaler"`},
		"an image with a tag":          {func(p *Places) { p.Image += ":v1" }, `-image-repository: repository "registry.example.org/scaler:v1"`},
		"no emulator":                  {func(p *Places) { p.Emulator = "" }, `-emulator-repository: repository ""`},
		"charts as a URL":              {func(p *Places) { p.Charts = "oci://registry.example.org/charts" }, `-chart-repository: repository "oci://`},
		"a download without TLS":       {func(p *Places) { p.Download = "http://example.org" }, `-download-url: got "http://example.org", want an https URL`},
		"a homepage that is no URL":    {func(p *Places) { p.Homepage = "example.org" }, `-homepage: got "example.org"`},
		"a homepage with slash at end": {func(p *Places) { p.Homepage += "/" }, `-homepage: got "https://example.org/"`},
	} {
		t.Run(name, func(t *testing.T) {
			p := places
			c.change(&p)
			err := p.check()
			if (err == nil) != (c.want == "") || (err != nil && !strings.Contains(err.Error(), c.want)) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

func TestAllFaultsOfTheCommandLineAreReportedAtOnce(t *testing.T) {
	err := run(t.Context(), []string{"build", "-version", "1.0", "-image-repository", "scaler", "surplus"}, io.Discard)
	for _, want := range []string{`-version: got "1.0"`, "-commit and -date: ", `-image-repository: `, "-out: missing", `got the arguments ["surplus"]`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
	if err := run(t.Context(), nil, io.Discard); err == nil || !strings.Contains(err.Error(), "want a command: build or push") {
		t.Errorf("without a command: %v", err)
	}
}

// A directory of the user's must not be lost to a wrong -out.
func TestOnlyAnEarlierDistributionIsReplaced(t *testing.T) {
	dir := t.TempDir()
	for _, fine := range []string{dir, filepath.Join(dir, "not-there")} {
		if err := checkOut(fine); err != nil {
			t.Errorf("%s: %v", fine, err)
		}
	}
	write(t, filepath.Join(dir, "precious"), "x")
	if err := checkOut(dir); err == nil || !strings.Contains(err.Error(), "is no earlier distribution") {
		t.Errorf("with files of the user: %v", err)
	}
	write(t, filepath.Join(dir, sums), "")
	if err := checkOut(dir); err != nil {
		t.Errorf("with checksums: %v", err)
	}
}

func TestBuildsAtTheSameTimeDoNotDisturbEachOther(t *testing.T) {
	out := filepath.Join(t.TempDir(), "dist")
	var group sync.WaitGroup
	for n := range 8 {
		group.Go(func() {
			dir, end, err := stage(out)
			if err != nil {
				t.Error(err)
				return
			}
			defer end()
			for _, name := range []string{sums, "a", "b"} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte{byte(n)}, 0o644); err != nil {
					t.Error(err)
				}
			}
			if err := replace(dir, out); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	entries, err := os.ReadDir(filepath.Dir(out))
	if err != nil || len(entries) != 1 {
		t.Errorf("beside dist there is %v, %v", entries, err)
	}
	if files, err := os.ReadDir(out); err != nil || len(files) != 3 {
		t.Errorf("dist has %v, %v", files, err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// made is a distribution with an image and the chart, without programs.
func made(t *testing.T, registry string) *distribution {
	t.Helper()
	at := places
	at.Image, at.Emulator, at.Charts = registry+"/scaler", registry+"/emulator", registry+"/charts"
	d := &distribution{Release: release.Release{Version: "v1.2.3", Commit: strings.Repeat("a", 40), Date: time.Unix(1.8e9, 0).UTC()}, Places: at, log: io.Discard, dir: t.TempDir()}
	i := image.Image{Title: "bitbucket-runner-scaler", Entrypoint: "/scaler", Repository: at.Image, Version: d.Version, Date: d.Date}
	index, err := i.Index(map[program.Platform][]archive.Entry{{OS: "linux", Arch: "amd64"}: {{Name: "scaler", Mode: 0o755, Content: []byte("program")}}})
	if err != nil {
		t.Fatal(err)
	}
	var packed bytes.Buffer
	if err := i.Archive(&packed, index); err != nil {
		t.Fatal(err)
	}
	digest, err := index.Digest()
	if err != nil {
		t.Fatal(err)
	}
	chart, err := manifest.Chart("../chart", d.Version, d.Homepage, manifest.Image{Repository: at.Image, Tag: d.Version, Digest: digest.String()}, d.Date)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{imageName(i.Title, d.Version): packed.Bytes(), chartName(d.Number()): chart} {
		if err := d.write(name, "about "+name, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.published(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := d.readme(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := d.checksums(t.Context()); err != nil {
		t.Fatal(err)
	}
	return d
}

// The downloads of a repository on Bitbucket are one folder for all versions, and the checksums
// have the names that files have there.
func TestEachFileHasTheVersionInItsName(t *testing.T) {
	d := made(t, "registry.example.org")
	names, err := verify(d.dir)
	if err != nil || len(names) < 4 {
		t.Fatalf("%q, %v", names, err)
	}
	for _, name := range names {
		if !strings.Contains(name, "1.2.3") {
			t.Errorf("%s has no version", name)
		}
	}
}

func TestTheListingSaysWhatIsThere(t *testing.T) {
	d := made(t, "registry.example.org")
	text, err := os.ReadFile(filepath.Join(d.dir, "README-v1.2.3.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"# bitbucket-runner-scaler v1.2.3\n", "| bitbucket-runner-scaler-1.2.3.tgz | about bitbucket-runner-scaler-1.2.3.tgz | ", "crds: none",
		"skopeo copy --all oci-archive:bitbucket-runner-scaler-v1.2.3-image.tar docker://registry.example.org/scaler:v1.2.3\n",
		"helm push bitbucket-runner-scaler-1.2.3.tgz oci://registry.example.org/charts\n",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("it does not have %q:\n%s", want, text)
		}
	}
	if strings.Contains(string(text), "example.com") {
		t.Errorf("it names examples, but no place is one:\n%s", text)
	}
	trial := made(t, "registry.example.com")
	if text, err := os.ReadFile(filepath.Join(trial.dir, "README-v1.2.3.md")); err != nil || !strings.Contains(string(text), "anything else: the image, the emulator's image, the chart.") {
		t.Errorf("it does not name the places that are examples: %v\n%s", err, text)
	}
}

func TestADistributionIsPushedToItsRegistries(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	d := made(t, host)
	var out bytes.Buffer
	if err := run(t.Context(), []string{"push", "-from", d.dir}, &out); err != nil {
		t.Fatal(err)
	}
	for _, reference := range []string{host + "/scaler:v1.2.3", host + "/charts/bitbucket-runner-scaler:1.2.3"} {
		tag, err := name.NewTag(reference)
		if err != nil {
			t.Fatal(err)
		}
		pulled, err := remote.Get(tag)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(out.String(), tag.Digest(pulled.Digest.String()).String()) {
			t.Errorf("%s is %s, but the output is\n%s", reference, pulled.Digest, out.String())
		}
	}
}

// The chart comes before the image of the scaler in the order of names.
func TestTheImagesArePushedBeforeTheChart(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	var out bytes.Buffer
	if err := run(t.Context(), []string{"push", "-from", made(t, strings.TrimPrefix(server.URL, "http://")).dir}, &out); err != nil {
		t.Fatal(err)
	}
	image, chart := strings.Index(out.String(), "/scaler@"), strings.Index(out.String(), "/charts/")
	if image < 0 || chart < image {
		t.Errorf("pushed in another order:\n%s", out.String())
	}
}

func TestAFlagThatDiffersFromTheBuildIsNotPushed(t *testing.T) {
	d := made(t, "registry.example.org")
	for flag, want := range map[string]string{
		"version": "v1.2.3", "image-repository": d.Image, "emulator-repository": d.Emulator, "chart-repository": d.Charts, "download-url": d.Download, "homepage": d.Homepage,
	} {
		err := run(t.Context(), []string{"push", "-from", d.dir, "-" + flag, "other"}, io.Discard)
		if err == nil || !strings.Contains(err.Error(), "-"+flag+`: got "other", but these files were built with "`+want+`"`) {
			t.Errorf("-%s other: %v", flag, err)
		}
	}
	p := published{Version: d.Version, Places: d.Places}
	if err := p.agrees(map[string]string{"version": "v1.2.3", "chart-repository": d.Charts}); err != nil {
		t.Errorf("with what it was built with: %v", err)
	}
}

func TestChangedFilesAreNotPushed(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	d := made(t, strings.TrimPrefix(server.URL, "http://"))
	write(t, filepath.Join(d.dir, "README-v1.2.3.md"), "changed")
	err := run(t.Context(), []string{"push", "-from", d.dir}, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "README-v1.2.3.md differs from its checksum") {
		t.Errorf("error %v, want one that names the file", err)
	}
	tag, err := name.NewTag(d.Image + ":v1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := remote.Get(tag); err == nil {
		t.Error("the image was pushed")
	}
}
