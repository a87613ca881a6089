package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
)

// With a wrong command line the demo starts nothing, prints nothing and leaves no files.
// The error names all faults.
func TestBadCommandLineIsRefusedAtOnce(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		want []string
	}{
		"programs not built": {[]string{"--bin", "/not/there"}, []string{"/not/there/sidecar", "/not/there/bitbucket-emulator", `"make demo" builds it`}},
		"further words":      {[]string{"--bin", "/not/there", "surplus"}, []string{`arguments: ["surplus"], want none`, "/not/there/sidecar"}},
		"unknown flag":       {[]string{"--colour"}, []string{"-colour"}},
	} {
		t.Run(name, func(t *testing.T) {
			temporary := t.TempDir()
			t.Setenv("TMPDIR", temporary)
			var out bytes.Buffer
			err := run(t.Context(), c.args, &out)
			if err == nil {
				t.Fatal("got nil")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("does not contain %q: %v", want, err)
				}
			}
			left, err := filepath.Glob(filepath.Join(temporary, "*"))
			if err != nil || len(left) > 0 || out.Len() > 0 {
				t.Errorf("left %v, printed %q, %v", left, &out, err)
			}
		})
	}
}

func TestHelpIsNotAnError(t *testing.T) {
	if err := run(t.Context(), []string{"-h"}, &bytes.Buffer{}); err != nil {
		t.Errorf("got %v", err)
	}
}
