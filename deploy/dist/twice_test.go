//go:build twice

package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"debug/buildinfo"
	"debug/elf"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"

	"bitbucket-runner-scaler/deploy/dist/program"
)

// TestTwoBuildsAreTheSame makes a release twice: from two clones, in folders of other lengths, the
// second one with an empty build cache, another home, time zone, language and mask for files. It
// takes as long as a first build, so it has a target of its own, make dist-check.
func TestTwoBuildsAreTheSame(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	// The second is a clone of the first, so that both have the same commit, even if another one is made meanwhile.
	one, two := filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "in", "a", "folder with spaces", "that is long")
	clone(t, root, one)
	clone(t, one, two)
	first := built(t, one, nil)
	second := built(t, two, []string{
		"GOCACHE=" + filepath.Join(t.TempDir(), "cache"), "HOME=" + t.TempDir(), "TZ=Pacific/Auckland", "LC_ALL=tr_TR.UTF-8", "GOAMD64=v3",
	})
	compare(t, first, second)
	checkPrograms(t, first)
}

// clone clones HEAD of a repository.
func clone(t *testing.T, from, to string) {
	t.Helper()
	if out, err := exec.Command("git", "clone", "-q", "--no-tags", from, to).CombinedOutput(); err != nil {
		t.Fatalf("clone: %v\n%s", err, out)
	}
}

// built makes a release of a clone, and returns its folder.
func built(t *testing.T, dir string, env []string) string {
	t.Helper()
	modules, err := exec.Command("go", "env", "GOMODCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	mask := "022"
	if env != nil {
		mask = "077"
	}
	cmd := exec.Command("sh", "-c", "umask "+mask+" && exec make dist VERSION=v0.0.0-twice SNAPSHOT=1")
	cmd.Dir, cmd.Env = dir, slices.Concat(os.Environ(), []string{"GOMODCACHE=" + strings.TrimSpace(string(modules))}, env)
	begun := time.Now()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("make dist in %s: %v\n%s", dir, err, out)
	}
	used := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	t.Logf("make dist took %s, and %s of one core", time.Since(begun).Round(time.Second), used.Round(time.Second))
	return filepath.Join(dir, "dist")
}

func compare(t *testing.T, first, second string) {
	t.Helper()
	names := func(dir string) []string {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, entry := range entries {
			names = append(names, entry.Name())
		}
		return names
	}
	if a, b := names(first), names(second); !slices.Equal(a, b) {
		t.Fatalf("files %q and %q", a, b)
	}
	for _, name := range names(first) {
		a, err := os.ReadFile(filepath.Join(first, name))
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(second, name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(a, b) {
			t.Errorf("%s differs", name)
		}
	}
	if _, err := verify(first); err != nil {
		t.Error(err)
	}
}

// checkPrograms compares each program with its bill of materials, and wants it to be static.
func checkPrograms(t *testing.T, dir string) {
	t.Helper()
	for _, p := range program.All {
		for _, on := range p.Platforms {
			base := filepath.Join(dir, p.Name+"-v0.0.0-twice-"+on.String())
			content := unpacked(t, base, on)
			info, err := buildinfo.Read(bytes.NewReader(content))
			if err != nil {
				t.Fatalf("%s: %v", base, err)
			}
			linked := []string{"pkg:golang/std@" + strings.TrimPrefix(info.GoVersion, "go")}
			for _, m := range info.Deps {
				linked = append(linked, strings.NewReplacer("~", "%7E", "+", "%2B").Replace("pkg:golang/"+m.Path+"@"+m.Version))
			}
			slices.Sort(linked)
			if listed := components(t, base+".cdx.json"); !slices.Equal(listed, linked) {
				t.Errorf("%s: the bill of materials lists\n%q, the program has\n%q", base, listed, linked)
			}
			if on.OS != "linux" {
				continue
			}
			file, err := elf.NewFile(bytes.NewReader(content))
			if err != nil {
				t.Fatal(err)
			}
			if slices.ContainsFunc(file.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
				t.Errorf("%s is not static", base)
			}
		}
	}
}

// unpacked returns the program of an archive.
func unpacked(t *testing.T, base string, on program.Platform) []byte {
	t.Helper()
	var from io.Reader
	if on.OS == "windows" {
		archive, err := zip.OpenReader(base + ".zip")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = archive.Close() }()
		file, err := archive.File[0].Open()
		if err != nil {
			t.Fatal(err)
		}
		from = file
	} else {
		file, err := os.Open(base + ".tar.gz")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = file.Close() }()
		unzipped, err := gzip.NewReader(file)
		if err != nil {
			t.Fatal(err)
		}
		archive := tar.NewReader(unzipped)
		if _, err := archive.Next(); err != nil {
			t.Fatal(err)
		}
		from = archive
	}
	content, err := io.ReadAll(from)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// components returns what a bill of materials lists, in order.
func components(t *testing.T, path string) []string {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	var document cdx.BOM
	if err := cdx.NewBOMDecoder(file, cdx.BOMFileFormatJSON).Decode(&document); err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, c := range *document.Components {
		found = append(found, c.PackageURL)
	}
	slices.Sort(found)
	return found
}
