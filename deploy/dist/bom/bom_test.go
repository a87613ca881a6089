package bom

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"bitbucket-runner-scaler/deploy/dist/licence"
	"bitbucket-runner-scaler/deploy/dist/program"
)

var (
	subject = Subject{Name: "scaler", Version: "v1.2.3", On: program.Platform{OS: "linux", Arch: "arm64"}, Content: []byte("program"), Date: time.Date(2026, 11, 26, 12, 0, 0, 0, time.FixedZone("", 3600))}
	modules = []licence.Module{
		{Path: Main, Needs: []string{"git.sr.ht/~sbinet/gg", licence.Standard}},
		{Path: "git.sr.ht/~sbinet/gg", Version: "v0.7.0+incompatible", SPDX: []string{"MIT", "FTL"}, Needs: []string{licence.Standard}},
		{Path: licence.Standard, Version: "go1.26.8", SPDX: []string{"BSD-3-Clause"}},
	}
)

// schema returns the schema of CycloneDX, which its library has beside its code.
func schema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/CycloneDX/cyclonedx-go").Output()
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	for name, file := range map[string]string{"bom-1.6.schema.json": "bom-1.6.schema.json", "spdx.schema.json": "spdx.schema.json", "jsf-0.82.schema.json": "jsf-0.82.schemax.json"} {
		text, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(out)), "schema", file))
		if err != nil {
			t.Fatal(err)
		}
		document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if err := compiler.AddResource("http://cyclonedx.org/schema/"+name, document); err != nil {
			t.Fatal(err)
		}
	}
	compiled, err := compiler.Compile("http://cyclonedx.org/schema/bom-1.6.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return compiled
}

func TestABillOfMaterialsKeepsToTheSchemaAndNamesWhatIsLinked(t *testing.T) {
	text, err := Write(subject, modules)
	if err != nil {
		t.Fatal(err)
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := schema(t).Validate(value); err != nil {
		t.Errorf("%v in\n%s", err, text)
	}
	var got cdx.BOM
	if err := cdx.NewBOMDecoder(bytes.NewReader(text), cdx.BOMFileFormatJSON).Decode(&got); err != nil {
		t.Fatal(err)
	}
	self := "pkg:golang/bitbucket-runner-scaler/cmd/scaler@v1.2.3?goarch=arm64&goos=linux"
	gg, std := "pkg:golang/git.sr.ht/%7Esbinet/gg@v0.7.0%2Bincompatible", "pkg:golang/std@1.26.8"
	if main := got.Metadata.Component; main.PackageURL != self || (*main.Hashes)[0].Value != "1310ca2c8932dbd118668bd97442558a3e1f546b5e15c69699dfbd6024f548d8" {
		t.Errorf("component %+v", main)
	}
	if c := *got.Components; len(c) != 2 || c[0].PackageURL != gg || len(*c[0].Licenses) != 2 || c[1].PackageURL != std {
		t.Errorf("components %+v, want %s and %s", c, gg, std)
	}
	edges := map[string][]string{}
	for _, d := range *got.Dependencies {
		if d.Dependencies != nil {
			edges[d.Ref] = *d.Dependencies
		}
	}
	if strings.Join(edges[self], " ") != gg+" "+std || strings.Join(edges[gg], " ") != std {
		t.Errorf("dependencies %v", edges)
	}
}

func TestABillOfMaterialsHasNoTimeButThatOfTheCommitAndNoSerialNumber(t *testing.T) {
	text, err := Write(subject, modules)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(text, []byte(`"timestamp": "2026-11-26T11:00:00Z"`)) || bytes.Contains(text, []byte("serialNumber")) {
		t.Errorf("bill of materials\n%s", text)
	}
}
