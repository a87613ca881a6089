package manifest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"sigs.k8s.io/yaml"
)

var (
	digest = "sha256:" + strings.Repeat("0a", 32)
	image  = Image{Repository: "registry.example.com/acme/scaler", Tag: "v1.2.3", Digest: digest}
	commit = time.Date(2026, 11, 26, 12, 0, 0, 0, time.FixedZone("", 3600))
)

func packaged(t *testing.T) (*chart.Chart, []byte) {
	t.Helper()
	content, err := Chart("../../chart", "v1.2.3", "https://example.org/home", image, commit)
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := loader.LoadArchive(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	return loaded, content
}

func TestThePackagedChartHasTheVersionAndTheImageByDigest(t *testing.T) {
	loaded, _ := packaged(t)
	if loaded.Metadata.Version != "1.2.3" || loaded.Metadata.AppVersion != "v1.2.3" {
		t.Errorf("version %s, appVersion %s", loaded.Metadata.Version, loaded.Metadata.AppVersion)
	}
	got, _ := loaded.Values["image"].(map[string]any)
	if got["repository"] != image.Repository || got["tag"] != image.Tag || got["digest"] != digest {
		t.Errorf("image %v", got)
	}
	if err := loaded.Validate(); err != nil {
		t.Error(err)
	}
}

// Readers of `helm show values` need the comments.
func TestThePackagedChartDiffersFromTheSourcesInThoseLinesOnly(t *testing.T) {
	loaded, _ := packaged(t)
	for _, f := range loaded.Raw {
		source, err := os.ReadFile(filepath.Join("../../chart", f.Name))
		if err != nil {
			t.Fatal(err)
		}
		// What the sources have as an example is the homepage of the release.
		source = bytes.ReplaceAll(source, []byte(example), []byte("https://example.org/home"))
		var changed []string
		for line := range strings.SplitSeq(string(f.Data), "\n") {
			if !slices.Contains(strings.Split(string(source), "\n"), line) {
				changed = append(changed, strings.TrimSpace(line))
			}
			if strings.Contains(line, example) {
				t.Errorf("%s: %q has the example", f.Name, line)
			}
		}
		want := map[string][]string{
			"Chart.yaml":  {`version: "1.2.3"`, `appVersion: "v1.2.3"`, `artifacthub.io/prerelease: "false"`},
			"values.yaml": {`repository: "registry.example.com/acme/scaler"`, `tag: "v1.2.3"`, `digest: "` + digest + `"`},
		}[f.Name]
		if !slices.Equal(changed, want) {
			t.Errorf("%s: changed %q, want %q", f.Name, changed, want)
		}
	}
}

func TestThePackagedChartIsWrittenAsHelmDoes(t *testing.T) {
	loaded, content := packaged(t)
	unzipped, err := gzip.NewReader(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for r := tar.NewReader(unzipped); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, header.Name)
		if !header.ModTime.Equal(commit) {
			t.Errorf("%s has the time %v, want that of the commit", header.Name, header.ModTime)
		}
	}
	if names[0] != "bitbucket-runner-scaler/Chart.yaml" || len(names) != len(loaded.Raw) {
		t.Errorf("files %q", names)
	}
	for _, name := range names {
		if strings.Contains(name, "/ci/") {
			t.Errorf("%s is in the chart, but .helmignore names it", name)
		}
	}
	again, err := Chart("../../chart", "v1.2.3", "https://example.org/home", image, commit.UTC())
	if err != nil || !bytes.Equal(again, content) {
		t.Errorf("packaged again in another time zone, it differs: %v", err)
	}
}

func TestTheChartNamesItsHomepageAndWhetherItIsAPreRelease(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"Chart.yaml":  "apiVersion: v2\nname: c\nversion: 0.1.0\nappVersion: latest\nhome: " + example + "\nsources:\n  - " + example + "\nannotations:\n  artifacthub.io/prerelease: \"true\"\n",
		"values.yaml": "image:\n  repository: \"\"\n  tag: \"\"\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for version, want := range map[string]string{"v1.2.3": "false", "v1.2.3-rc.1": "true"} {
		content, err := Chart(dir, version, "https://example.org/home", image, commit)
		if err != nil {
			t.Fatal(err)
		}
		loaded, err := loader.LoadArchive(bytes.NewReader(content))
		if err != nil {
			t.Fatal(err)
		}
		m := loaded.Metadata
		if m.Home != "https://example.org/home" || m.Sources[0] != m.Home || m.Annotations[prerelease] != want {
			t.Errorf("%s: home %s, sources %q, annotations %v", version, m.Home, m.Sources, m.Annotations)
		}
	}
}

func TestFieldsAreSetInTheirLines(t *testing.T) {
	for name, c := range map[string]struct{ text, within, want, fault string }{
		"fields that are there":   {"# top\nimage:\n  # who\n  a: x # why\n  b: \"\"\nother: {a: 1}\n", "image", "# top\nimage:\n  # who\n  a: \"1\"\n  b: \"2\"\nother: {a: 1}\n", ""},
		"one that is missing":     {"image:\n  a: x\n  # next\n  c: y\n", "image", "image:\n  a: \"1\"\n  b: \"2\"\n  # next\n  c: y\n", ""},
		"at the top":              {"a: x\nb: y\n", "", "a: \"1\"\nb: \"2\"\n", ""},
		"the first is missing":    {"image: {b: 1}\n", "image", "", "image.a is missing"},
		"no such mapping":         {"a: x\n", "image", "", "image is no mapping"},
		"a mapping":               {"a: {b: 1}\n", "", "", "a is no scalar in a line of its own"},
		"a scalar of other lines": {"a:\n  x\n", "", "", "a is no scalar in a line of its own"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := set([]byte(c.text), c.within, field{"a", "1"}, field{"b", "2"})
			if string(got) != c.want || (err == nil) != (c.fault == "") || (err != nil && !strings.Contains(err.Error(), c.fault)) {
				t.Errorf("got\n%s%v, want\n%s%s", got, err, c.want, c.fault)
			}
		})
	}
}

func TestTheRenderedBaseHasTheImageByDigest(t *testing.T) {
	text, err := Install("../../base", "v1.2.3", image)
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]int{}
	for document := range strings.SplitSeq(string(text), "\n---\n") {
		var object struct {
			Kind string `json:"kind"`
			Spec struct {
				Template struct {
					Spec struct {
						Containers []struct {
							Image string `json:"image"`
						} `json:"containers"`
					} `json:"spec"`
				} `json:"template"`
			} `json:"spec"`
		}
		if err := yaml.Unmarshal([]byte(document), &object); err != nil {
			t.Fatal(err)
		}
		kinds[object.Kind]++
		if object.Kind == "Deployment" {
			if got, want := object.Spec.Template.Spec.Containers[0].Image, image.Repository+"@"+digest; got != want {
				t.Errorf("image %s, want %s", got, want)
			}
		}
	}
	if kinds["Deployment"] != 1 || kinds["Namespace"] != 1 || kinds["Service"] == 0 || kinds["CustomResourceDefinition"] != 0 {
		t.Errorf("kinds %v", kinds)
	}
	for _, want := range []string{"scaler v1.2.3, for kubectl apply", "crds: none"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the text does not say %q", want)
		}
	}
	if strings.Contains(string(text), "$(") {
		t.Error("a variable was not replaced")
	}
}

func TestTheKrewManifestIsFilledIn(t *testing.T) {
	template, err := os.ReadFile("../../krew/bitbucket-runners.yaml")
	if err != nil {
		t.Fatal(err)
	}
	d := Download{Version: "v1.2.3", Homepage: "https://example.com/home", URL: "https://example.com/v1.2.3", SHA256: map[string]string{}}
	if _, err := Krew(template, d); err == nil || !strings.Contains(err.Error(), "SHA256-darwin-arm64") {
		t.Errorf("without checksums: %v", err)
	}
	for _, on := range []string{"linux-amd64", "linux-arm64", "darwin-amd64", "darwin-arm64", "windows-amd64", "windows-arm64"} {
		d.SHA256[on] = "sum-of-" + on
	}
	text, err := Krew(template, d)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"version: v1.2.3", "homepage: https://example.com/home\n", "uri: https://example.com/v1.2.3/runnerctl-v1.2.3-windows-arm64.zip", "sha256: sum-of-darwin-arm64"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("it does not have %q:\n%s", want, text)
		}
	}
	if placeholder.Match(text) || !strings.HasPrefix(string(text), "apiVersion:") {
		t.Errorf("manifest\n%s", text)
	}
}
