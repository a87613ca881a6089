package licence

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

const mit = `Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated documentation files (the "Software"), to deal in the Software without restriction, including without limitation the rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
`

func TestTheModulesOfAProgramComeWithTheirLicences(t *testing.T) {
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	modules, err := Modules(t.Context(), "../../..", strings.TrimSpace(string(goroot)), runtime.Version(), os.Environ(), "./cmd/sidecar")
	if err != nil {
		t.Fatal(err)
	}
	byPath := map[string]Module{}
	for _, m := range modules {
		byPath[m.Path] = m
	}
	self, grpc, std := byPath["bitbucket-runner-scaler"], byPath["google.golang.org/grpc"], byPath[Standard]
	if !slices.Contains(self.Needs, "google.golang.org/grpc") || self.Files != nil {
		t.Errorf("main module %+v", self)
	}
	if !slices.Equal(grpc.SPDX, []string{"Apache-2.0"}) || grpc.Version == "" || !slices.Contains(grpc.Needs, Standard) || len(grpc.Files) != 2 {
		t.Errorf("grpc %s %q needs %q, with %d files, want its licence and its notice", grpc.Version, grpc.SPDX, grpc.Needs, len(grpc.Files))
	}
	if !slices.Contains(std.SPDX, "BSD-3-Clause") || std.Version != runtime.Version() || std.Needs != nil {
		t.Errorf("standard library %s %q needs %q", std.Version, std.SPDX, std.Needs)
	}
	// The sidecar does not contain what only the scaler does.
	if _, there := byPath["k8s.io/client-go"]; there {
		t.Error("client-go is there")
	}
	text := string(Text("sidecar", modules))
	for _, want := range []string{"google.golang.org/grpc " + grpc.Version + ": Apache-2.0", "TERMS AND CONDITIONS FOR USE", "Copyright 2009 The Go Authors"} {
		if !strings.Contains(text, want) {
			t.Errorf("the text does not have %q", want)
		}
	}
}

// module writes a module with the given files, and returns it as `go list` lists its one package.
func module(t *testing.T, files map[string]string, replaced bool) []byte {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(root, "a", "b"), 0o755); err != nil {
		t.Fatal(err)
	}
	m := map[string]any{"Path": "example.com/m", "Version": "v1.0.0", "Dir": root}
	if replaced {
		m["Replace"] = map[string]string{"Path": "../m"}
	}
	out, err := json.Marshal(map[string]any{"ImportPath": "example.com/m/a/b", "Dir": filepath.Join(root, "a", "b"), "Module": m})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestWhichFilesAreLicences(t *testing.T) {
	for name, c := range map[string]struct {
		files    map[string]string
		replaced bool
		want     string // the names of the files
		fault    string
	}{
		"one":                        {map[string]string{"LICENSE": mit, "README.md": mit}, false, "LICENSE", ""},
		"with notice and patents":    {map[string]string{"License.md": mit, "NOTICE.txt": "n", "PATENTS": "p"}, false, "License.md NOTICE.txt PATENTS", ""},
		"code of that name":          {map[string]string{"COPYING": mit, "license.go": "package m", "license.json": "{}"}, false, "COPYING", ""},
		"above and beside a package": {map[string]string{"LICENSE": mit, "a/LICENSE": mit, "a/b/LICENSE": mit, "c/LICENSE": mit}, false, "LICENSE a/LICENSE a/b/LICENSE", ""},
		"a folder of licences":       {map[string]string{"LICENSE": "one of licenses/", "licenses/mit.txt": mit}, false, "LICENSE licenses/mit.txt", ""},
		"none":                       {map[string]string{"README": mit}, false, "", "has no licence"},
		"an unknown one":             {map[string]string{"LICENSE": "All rights reserved."}, false, "", "example.com/m v1.0.0: no licence was recognized"},
		"a replaced module":          {map[string]string{"LICENSE": mit}, true, "", "example.com/m is replaced by ../m"},
	} {
		t.Run(name, func(t *testing.T) {
			modules, err := parse(module(t, c.files, c.replaced), "", "")
			if (err == nil) != (c.fault == "") || (err != nil && !strings.Contains(err.Error(), c.fault)) {
				t.Fatalf("error %v, want %q", err, c.fault)
			}
			if err != nil {
				return
			}
			var names []string
			for _, f := range modules[0].Files {
				names = append(names, f.Name)
			}
			if got := strings.Join(names, " "); got != c.want || !slices.Equal(modules[0].SPDX, []string{"MIT"}) {
				t.Errorf("files %q under %q, want %q under MIT", got, modules[0].SPDX, c.want)
			}
		})
	}
}
