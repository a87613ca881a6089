package round

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"bitbucket-runner-scaler/bitbucket/emulator"
)

// secret matches what must be in no log: runners' secrets have this form at the
// emulator, and so have its tokens.
var secret = regexp.MustCompile(`\b[0-9a-f]{64}\b|` + regexp.QuoteMeta(emulator.OAuthClientSecret) + `|` + hookSecret)

// broken matches a program that ended as none may.
var broken = regexp.MustCompile(`(?m)^(panic:|fatal error:|WARNING: DATA RACE).*`)

// judgeLogs looks for secrets and for crashes in the logs of all processes.
func (r *Round) judgeLogs() error {
	paths, err := filepath.Glob(filepath.Join(r.dir, "logs", "*.log"))
	if err != nil {
		return fmt.Errorf("logs: %w", err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("logs: %w", err)
		}
		name := filepath.Base(path)
		if strings.HasSuffix(name, "_sidecar.log") {
			r.record.Pods++
		}
		if line := secret.Find(text); line != nil {
			r.violate("%s has a secret in it", name)
		}
		if line := broken.Find(text); line != nil {
			r.violate("%s: %s", name, bytes.TrimSpace(line))
		}
	}
	return nil
}
