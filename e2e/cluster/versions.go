package cluster

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"k8s.io/apimachinery/pkg/util/version"
)

// Variables of the environment that choose what a cluster runs, by minor version: E2E_KUBERNETES=1.33 E2E_KEDA=2.16.
// The default is the newest of each.
const (
	kubernetesVariable = "E2E_KUBERNETES"
	kedaVariable       = "E2E_KEDA"
)

// Release is a version of Kubernetes or KEDA and the module below tools that pins it.
type Release struct {
	Version string // without v
	tools   string
}

// dir returns the module's folder, relative to this module's root.
func (r Release) dir() string { return path.Join("tools", r.tools) }

// minor returns the version without its patch: 1.36.
func (r Release) minor() string { return r.Version[:strings.LastIndex(r.Version, ".")] }

// Kubernetes and KEDA that can be run, the newest first. Each version must agree with the go.mod of its module.
var (
	kubernetesReleases = []Release{{"1.36.4", "kubernetes"}, {"1.33.13", "kubernetes-1.33"}}
	kedaReleases       = []Release{{"2.21.0", "keda"}, {"2.17.2", "keda-2.17"}, {"2.16.1", "keda-2.16"}}
)

// Versions are what a cluster runs.
type Versions struct{ Kubernetes, KEDA Release }

// ReadsAuthorityAgain reports whether KEDA connects again with another authority. Before
// 2.20 it keeps the first connection to an address.
func (v Versions) ReadsAuthorityAgain() bool {
	return version.MustParseGeneric(v.KEDA.Version).AtLeast(version.MustParseGeneric("2.20"))
}

// chosen returns the versions that the environment asks for. The error names every variable whose value is unknown.
func chosen() (Versions, error) {
	kubernetes, kubernetesErr := choose(kubernetesVariable, kubernetesReleases)
	keda, kedaErr := choose(kedaVariable, kedaReleases)
	return Versions{Kubernetes: kubernetes, KEDA: keda}, errors.Join(kubernetesErr, kedaErr)
}

func choose(variable string, releases []Release) (Release, error) {
	asked := os.Getenv(variable)
	if asked == "" {
		return releases[0], nil
	}
	known := make([]string, len(releases))
	for i, release := range releases {
		if known[i] = release.minor(); known[i] == asked {
			return release, nil
		}
	}
	return Release{}, fmt.Errorf("%s: got %q, want one of %s", variable, asked, strings.Join(known, ", "))
}
