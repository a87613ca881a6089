package sidecar

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

// marker records that a runner's environment was handed out. It holds no secret.
type marker struct {
	UUID  string `json:"uuid"`
	Name  string `json:"name"`
	Place place  `json:"place,omitzero"`
	// Ended is set once the runner process has ended.
	Ended bool `json:"ended,omitempty"`
}

// place is where the runner is registered, as in runner/v1.
type place struct {
	Credentials string `json:"credentials"`
	Workspace   string `json:"workspace"`
	Repository  string `json:"repository,omitempty"`
}

func placeOf(p *runnerv1.Place) place {
	return place{Credentials: p.GetCredentials(), Workspace: p.GetWorkspaceUuid(), Repository: p.GetRepositoryUuid()}
}

func (p place) wire() *runnerv1.Place {
	if p == (place{}) {
		return nil
	}
	return &runnerv1.Place{Credentials: p.Credentials, WorkspaceUuid: p.Workspace, RepositoryUuid: p.Repository}
}

// readMarker returns false if nothing was handed out. A marker that cannot be
// parsed still means that the environment was handed out.
func readMarker(dir string) (marker, bool, error) {
	content, err := os.ReadFile(filepath.Join(dir, markerName))
	if errors.Is(err, fs.ErrNotExist) {
		return marker{}, false, nil
	}
	if err != nil {
		return marker{}, false, fmt.Errorf("read marker: %w", err)
	}
	var m marker
	if err := json.Unmarshal(content, &m); err != nil {
		return marker{}, true, nil //nolint:nilerr // see above
	}
	return m, true, nil
}

func writeMarker(dir string, m marker) error {
	content, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode marker: %w", err)
	}
	return replaceFile(filepath.Join(dir, markerName), 0o644, func(w io.Writer) error {
		_, err := w.Write(content)
		return err
	})
}

// install copies the running binary into dir, for the runner container.
func install(dir string) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find own binary: %w", err)
	}
	source, err := os.Open(self)
	if err != nil {
		return fmt.Errorf("read own binary: %w", err)
	}
	defer func() { _ = source.Close() }() // only read
	return replaceFile(filepath.Join(dir, binaryName), 0o755, func(w io.Writer) error {
		_, err := io.Copy(w, source)
		return err
	})
}

// replaceFile writes a file beside path and renames it, so that path has either the
// old content or all of the new content, even after a crash.
func replaceFile(path string, mode os.FileMode, write func(io.Writer) error) (err error) {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			_ = file.Close()
			_ = os.Remove(file.Name()) //nolint:gosec // a file in the configured folder
			err = fmt.Errorf("write %s: %w", path, err)
		}
	}()
	if err := write(file); err != nil {
		return err
	}
	if err := file.Chmod(mode); err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	return os.Rename(file.Name(), path) //nolint:gosec // within the configured folder
}
