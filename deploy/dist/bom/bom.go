// Package bom writes the bill of materials of a program, in CycloneDX's JSON. It depends only on
// what is given: no serial number, no time but that of the commit.
package bom

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"

	"bitbucket-runner-scaler/deploy/dist/licence"
	"bitbucket-runner-scaler/deploy/dist/program"
)

// Main is the path of the module that the programs are of.
const Main = "bitbucket-runner-scaler"

// Subject is the program whose materials are listed.
type Subject struct {
	Name, Version string
	On            program.Platform
	Content       []byte // the program itself
	Date          time.Time
}

// Write returns the bill of materials. modules has what the program is linked from, and the main
// module, whose needs are those of the program.
func Write(s Subject, modules []licence.Module) ([]byte, error) {
	self := fmt.Sprintf("pkg:golang/%s/cmd/%s@%s?goarch=%s&goos=%s", Main, s.Name, s.Version, s.On.Arch, s.On.OS)
	sum := sha256.Sum256(s.Content)
	document := cdx.NewBOM()
	document.Metadata = &cdx.Metadata{
		Timestamp:  s.Date.UTC().Format(time.RFC3339),
		Lifecycles: &[]cdx.Lifecycle{{Phase: cdx.LifecyclePhaseBuild}},
		Tools:      &cdx.ToolsChoice{Components: &[]cdx.Component{{Type: cdx.ComponentTypeApplication, Name: "dist", Group: Main, Version: s.Version}}},
		Component: &cdx.Component{
			BOMRef: self, Type: cdx.ComponentTypeApplication, Name: s.Name, Group: Main, Version: s.Version, PackageURL: self,
			Licenses: licences([]string{"Apache-2.0"}),
			Hashes:   &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: hex.EncodeToString(sum[:])}},
		},
	}
	refs := map[string]string{Main: self}
	for _, m := range modules {
		if m.Path != Main {
			refs[m.Path] = purl(m)
		}
	}
	var components []cdx.Component
	var dependencies []cdx.Dependency
	for _, m := range modules {
		on := make([]string, len(m.Needs))
		for i, path := range m.Needs {
			on[i] = refs[path]
		}
		dependencies = append(dependencies, cdx.Dependency{Ref: refs[m.Path], Dependencies: &on})
		if m.Path == Main {
			continue
		}
		components = append(components, cdx.Component{
			BOMRef: refs[m.Path], Type: cdx.ComponentTypeLibrary, Name: m.Path, Version: version(m), PackageURL: refs[m.Path],
			Scope: cdx.ScopeRequired, Licenses: licences(m.SPDX),
		})
	}
	document.Components, document.Dependencies = &components, &dependencies
	var text bytes.Buffer
	if err := cdx.NewBOMEncoder(&text, cdx.BOMFileFormatJSON).SetPretty(true).EncodeVersion(document, cdx.SpecVersion1_6); err != nil {
		return nil, fmt.Errorf("bill of materials of %s for %s: %w", s.Name, s.On, err)
	}
	return text.Bytes(), nil
}

// version returns Go's version without its prefix, as databases of vulnerabilities have it.
func version(m licence.Module) string {
	if m.Path == licence.Standard {
		return strings.TrimPrefix(m.Version, "go")
	}
	return m.Version
}

func purl(m licence.Module) string {
	return "pkg:golang/" + strings.ReplaceAll(m.Path, "~", "%7E") + "@" + strings.ReplaceAll(version(m), "+", "%2B")
}

func licences(spdx []string) *cdx.Licenses {
	found := make(cdx.Licenses, len(spdx))
	for i, id := range spdx {
		found[i] = cdx.LicenseChoice{License: &cdx.License{ID: id}}
	}
	return &found
}
