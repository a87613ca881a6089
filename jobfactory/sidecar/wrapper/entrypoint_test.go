package wrapper

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAnEntrypointIsInspectedInsideTheImage(t *testing.T) {
	elfHead := func(machine byte) string {
		return "\x7fELF\x02\x01\x01" + strings.Repeat("\x00", 11) + string([]byte{machine, 0}) + strings.Repeat("\x00", 64)
	}
	root := t.TempDir()
	for name, c := range map[string]struct {
		text string
		mode os.FileMode
	}{
		"usr/bin/sh":       {elfHead(0x3e), 0o755},
		"arm/sh":           {elfHead(0xb7), 0o755},
		"opt/exec.sh":      {"#!/bin/sh -e\nA=b exec java -jar x\n", 0o755},
		"opt/plain.sh":     {"#!/bin/sh\nexec >log 2>&1\njava -jar x\n", 0o755},
		"opt/off.sh":       {"#!/bin/sh\n", 0o644},
		"opt/no-interp.sh": {"#!/bin/bash\n", 0o755},
		"opt/text":         {"hello\n", 0o755},
		"opt/empty.sh":     {"#!\n", 0o755},
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(c.text), c.mode); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{"bin": "/usr/bin", "opt/out": "../../../../../etc/passwd", "opt/round": "round"} {
		if err := os.Symlink(target, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		path  string
		want  Entrypoint
		fault string
	}{
		"a script that execs":          {path: "/opt/exec.sh", want: Entrypoint{Interpreter: "/bin/sh -e", Execs: true, Architecture: "amd64"}},
		"a script that does not":       {path: "/opt/plain.sh", want: Entrypoint{Interpreter: "/bin/sh", Architecture: "amd64"}},
		"a program":                    {path: "/arm/sh", want: Entrypoint{Architecture: "arm64"}},
		"missing":                      {path: "/opt/entrypoint.sh", fault: "/opt/entrypoint.sh is not in the image"},
		"not executable":               {path: "/opt/off.sh", want: Entrypoint{Interpreter: "/bin/sh", Architecture: "amd64"}, fault: "/opt/off.sh is not executable (-rw-r--r--)"},
		"its interpreter is not there": {path: "/opt/no-interp.sh", want: Entrypoint{Interpreter: "/bin/bash"}, fault: "/bin/bash is not in the image"},
		"no interpreter":               {path: "/opt/empty.sh", fault: "the first line of /opt/empty.sh has no interpreter"},
		"neither":                      {path: "/opt/text", fault: "neither a script"},
		"a folder":                     {path: "/opt", fault: "/opt is not a regular file"},
		"a relative path":              {path: "opt/exec.sh", fault: "want an absolute path"},
		"a link that leads out of it":  {path: "/opt/out", fault: "/opt/out is not in the image"},
		"a path that leads out of it":  {path: "/../../../../etc/passwd", fault: "is not in the image"},
		"a link that leads to itself":  {path: "/opt/round", fault: "/opt/round: "},
		"a link to an absolute path":   {path: "/bin/sh", want: Entrypoint{Architecture: "amd64"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := InspectEntrypoint(root, c.path)
			if err != nil {
				t.Fatal(err)
			}
			if text := strings.Join(got.Faults, "\n"); !strings.Contains(text, c.fault) || c.fault == "" && text != "" {
				t.Errorf("faults %q, want %q", text, c.fault)
			}
			c.want.Path, got.Faults = c.path, nil
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("want -, got +:\n%s", diff)
			}
		})
	}
	if _, err := InspectEntrypoint(filepath.Join(root, "no"), "/x"); err == nil {
		t.Error("a root that is not there was accepted")
	}
}
