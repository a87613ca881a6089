package deploytest

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// plugin is a manifest of krew, version v1alpha2. Its own module needs a client-go that no other
// of today's does.
type plugin struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name string `json:"name"`
	} `json:"metadata"`
	Spec struct {
		Version          string `json:"version"`
		Homepage         string `json:"homepage"`
		ShortDescription string `json:"shortDescription"`
		Description      string `json:"description"`
		Caveats          string `json:"caveats"`
		Platforms        []struct {
			Selector struct {
				MatchLabels map[string]string `json:"matchLabels"`
			} `json:"selector"`
			URI    string `json:"uri"`
			SHA256 string `json:"sha256"`
			Bin    string `json:"bin"`
		} `json:"platforms"`
	} `json:"spec"`
}

// TestTheKrewManifestIsOneOnceItIsFilledIn fills in what a release does.
func TestTheKrewManifestIsOneOnceItIsFilledIn(t *testing.T) {
	source, err := os.ReadFile("../krew/bitbucket-runners.yaml")
	if err != nil {
		t.Fatal(err)
	}
	filled := regexp.MustCompile(`SHA256-\S+`).ReplaceAllString(string(source), strings.Repeat("0a", 32))
	filled = strings.NewReplacer("VERSION", "v1.2.3", "HOMEPAGE", "https://example.com", "URL", "https://example.com/v1.2.3").Replace(filled)
	var p plugin
	if err := yaml.UnmarshalStrict([]byte(filled), &p); err != nil {
		t.Fatal(err)
	}
	if p.APIVersion != "krew.googlecontainertools.github.com/v1alpha2" || p.Kind != "Plugin" || p.Metadata.Name != "bitbucket-runners" || p.Spec.Version != "v1.2.3" || len(p.Spec.ShortDescription) > 50 {
		t.Errorf("%+v", p)
	}
	if len(p.Spec.Platforms) != 6 {
		t.Errorf("%d platforms, want 6", len(p.Spec.Platforms))
	}
	for _, archive := range p.Spec.Platforms {
		system, arch := archive.Selector.MatchLabels["os"], archive.Selector.MatchLabels["arch"]
		if !strings.Contains(archive.URI, "/v1.2.3/runnerctl-v1.2.3-"+system+"-"+arch) || strings.TrimSuffix(archive.Bin, ".exe") != "runnerctl" || len(archive.SHA256) != 64 {
			t.Errorf("%+v", archive)
		}
	}
}
