// Package licence finds what a program is linked from and under which licences that stands: the
// modules whose packages it contains, and the Go standard library.
package licence

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/google/licensecheck"
)

// Standard is the path of the module that stands for the Go standard library.
const Standard = "std"

// Module is a module, or the standard library, of which a program contains packages.
type Module struct {
	Path, Version string
	// SPDX are the identifiers of the licences that were recognized, in order.
	SPDX  []string
	Files []File
	// Needs are the paths of the modules whose packages are imported.
	Needs []string
}

// File is a licence or a notice. Name is relative to the module.
type File struct {
	Name string
	Text []byte
}

// listed is what `go list -json` says of a package.
type listed struct {
	ImportPath, Dir string
	Standard        bool
	Imports         []string
	ImportMap       map[string]string
	Module          *struct {
		Path, Version, Dir string
		Main               bool
		Replace            *struct{ Path, Version, Dir string }
	}
}

// Modules returns the modules of the program in package, such as ./cmd/scaler, by their paths. The
// main module is not among them; its needs are under its name. env decides the platform.
func Modules(ctx context.Context, root, goroot, version string, env []string, program string) ([]Module, error) {
	cmd := exec.CommandContext(ctx, "go", "list", "-deps", "-json=ImportPath,Dir,Standard,Imports,ImportMap,Module", program)
	cmd.Dir, cmd.Env, cmd.Stderr = root, env, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("list the packages of %s: %w", program, err)
	}
	found, err := parse(out, goroot, version)
	if err != nil {
		return nil, fmt.Errorf("packages of %s: %w", program, err)
	}
	return found, nil
}

// chosen are the licences that we take of those between which a module lets its users choose.
var chosen = map[string][]string{
	"github.com/golang/freetype": {"FTL"}, // the other is GPL-2.0-or-later
}

// parse joins the packages to modules and reads their licences.
func parse(out []byte, goroot, version string) ([]Module, error) {
	modules, packages := map[string]*Module{}, map[string]listed{}
	roots, dirs := map[string]string{}, map[string]map[string]bool{}
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		packages[p.ImportPath] = p
		path := moduleOf(p)
		if modules[path] == nil {
			modules[path], roots[path], dirs[path] = &Module{Path: path, Version: version}, goroot, map[string]bool{}
			if m := p.Module; m != nil {
				modules[path].Version, roots[path] = m.Version, m.Dir
				if r := m.Replace; r != nil {
					return nil, fmt.Errorf("%s is replaced by %s; a release is made of published modules", m.Path, r.Path)
				}
			}
		}
		dirs[path][p.Dir] = true
	}
	for path, m := range modules {
		m.Needs = needs(path, packages)
		if main := path != Standard && m.Version == ""; main {
			continue // its licence is the repository's
		}
		var err error
		if m.Files, err = read(roots[path], slices.Sorted(maps.Keys(dirs[path]))); err != nil {
			return nil, err
		}
		if m.SPDX = identify(m.Files); chosen[path] != nil {
			m.SPDX = chosen[path]
		}
		if len(m.SPDX) == 0 {
			return nil, fmt.Errorf("%s %s: no licence was recognized in %s", path, m.Version, roots[path])
		}
	}
	sorted := slices.SortedFunc(maps.Values(modules), func(a, b *Module) int { return cmp.Compare(a.Path, b.Path) })
	list := make([]Module, len(sorted))
	for i, m := range sorted {
		list[i] = *m
	}
	return list, nil
}

func moduleOf(p listed) string {
	if p.Standard || p.Module == nil {
		return Standard
	}
	return p.Module.Path
}

// needs returns the other modules that the packages of a module import.
func needs(path string, packages map[string]listed) []string {
	found := map[string]bool{}
	for _, p := range packages {
		if moduleOf(p) != path {
			continue
		}
		for _, imported := range p.Imports {
			if mapped, ok := p.ImportMap[imported]; ok {
				imported = mapped
			}
			if to, ok := packages[imported]; ok && moduleOf(to) != path {
				found[moduleOf(to)] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// names are those of files that must go with a program. A PATENTS file grants, too.
var names = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|patents|unlicense)([.-].*)?$`)

// code are files whose names only look like that of a licence.
var code = regexp.MustCompile(`(?i)\.(go|tmpl|json|yaml)$`)

// folder is the directory that some modules have for their licences.
var folder = regexp.MustCompile(`^(?i)licen[cs]es$`)

// read returns the licences of the given packages: those in their directories and in all above, up
// to the root of the module, and in its folder of licences.
func read(root string, dirs []string) ([]File, error) {
	above := map[string]bool{}
	for _, dir := range dirs {
		for strings.HasPrefix(dir, root) && !above[dir] {
			above[dir] = true
			if dir == root {
				break
			}
			dir = filepath.Dir(dir)
		}
	}
	above[root] = true
	if entries, err := os.ReadDir(root); err == nil {
		for _, entry := range entries {
			if entry.IsDir() && folder.MatchString(entry.Name()) {
				above[filepath.Join(root, entry.Name())] = true
			}
		}
	}
	var files []File
	for _, dir := range slices.Sorted(maps.Keys(above)) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		for _, entry := range entries {
			named := names.MatchString(entry.Name()) || folder.MatchString(filepath.Base(dir))
			if !named || code.MatchString(entry.Name()) || !entry.Type().IsRegular() {
				continue
			}
			text, err := os.ReadFile(filepath.Join(dir, entry.Name()))
			if err != nil {
				return nil, err
			}
			name, err := filepath.Rel(root, filepath.Join(dir, entry.Name()))
			if err != nil {
				return nil, err
			}
			files = append(files, File{filepath.ToSlash(name), text})
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%s has no licence: %w", root, fs.ErrNotExist)
	}
	return files, nil
}

// identify returns the SPDX identifiers of the licences in files.
func identify(files []File) []string {
	found := map[string]bool{}
	for _, f := range files {
		for _, match := range licensecheck.Scan(f.Text).Match {
			if !match.IsURL && match.ID != "GooglePatentsFile" && match.ID != "GooglePatentClause" {
				found[match.ID] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// Text returns the licences of all modules as one text for people.
func Text(program string, modules []Module) []byte {
	var text bytes.Buffer
	fmt.Fprintf(&text, "Licences of what %s contains, apart from its own code, whose licence is in LICENSE.\n\n", program)
	for _, m := range modules {
		if len(m.Files) > 0 {
			fmt.Fprintf(&text, "  %s %s: %s\n", m.Path, m.Version, strings.Join(m.SPDX, ", "))
		}
	}
	for _, m := range modules {
		for _, f := range m.Files {
			fmt.Fprintf(&text, "\n%s\n%s %s: %s\n%s\n\n%s\n", strings.Repeat("=", 80), m.Path, m.Version, f.Name, strings.Repeat("=", 80), bytes.TrimRight(f.Text, "\n"))
		}
	}
	return text.Bytes()
}
