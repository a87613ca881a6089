package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const (
	// staging ends the name of a new file before it takes its place, saved that of a copy
	// of the file that it replaces.
	staging = ".runnerctl-new"
	saved   = ".runnerctl-old"
	// mark is in every manifest that render writes.
	mark = "app.kubernetes.io/part-of: bitbucket-runner-scaler"
)

// replacement is a set of files that take their places in a directory all together
// or not at all. The directory itself stays: it may be the working directory, a
// mount point or a link. It may also hold the user's files, which stay too. All that
// can run out of space or be forbidden is done beside the places first. Then each
// file takes its place by a rename, and if one rename fails, the others are undone.
type replacement struct {
	dir   string
	files []*replaced
	// made are the folders that write made, outermost first.
	made []string
}

// replaced is one file.
type replaced struct {
	path string
	// data is nil for a file that is to be removed.
	data []byte
	// before is true if there was an old file, placed if the new one is in its place.
	before, placed bool
}

// add adds a file by its path below the directory, with slashes. The last one added
// is the last to take its place.
func (r *replacement) add(path string, data []byte) {
	r.files = append(r.files, &replaced{path: filepath.Join(r.dir, filepath.FromSlash(path)), data: data})
}

// remove removes a file that an earlier run has written, with the replacement of the
// others. It reports whether there is one.
func (r *replacement) remove(path string) bool {
	f := &replaced{path: filepath.Join(r.dir, filepath.FromSlash(path))}
	data, err := os.ReadFile(f.path)
	if err != nil || !ours(data) {
		return false
	}
	r.files = append(r.files, f)
	return true
}

func (r *replacement) write() error {
	if err := r.refuseOthers(); err != nil {
		return err
	}
	err := r.stage()
	if err == nil {
		err = r.swap()
	}
	if err != nil {
		err = errors.Join(err, r.back())
	}
	for _, f := range r.files {
		discard(f.path + staging) // a file that has taken its place has none
		if err == nil || !f.placed {
			discard(f.path + saved)
		}
		if err == nil && f.data == nil {
			_ = os.Remove(filepath.Dir(f.path)) // unless something is in it
		}
	}
	if err != nil {
		for _, folder := range slices.Backward(r.made) {
			_ = os.Remove(folder) // unless something is in it
		}
	}
	return err
}

// discard removes a file, but not a folder of that name.
func discard(path string) {
	if info, err := os.Lstat(path); err == nil && info.Mode().IsRegular() {
		_ = os.Remove(path)
	}
}

// refuseOthers returns an error that names every file that render would overwrite and
// did not write.
func (r *replacement) refuseOthers() error {
	var errs []error
	for _, f := range r.files {
		if info, err := os.Lstat(f.path); err != nil || !info.Mode().IsRegular() {
			continue // nothing there; swap reports what is no file
		}
		data, err := os.ReadFile(f.path)
		if err != nil {
			errs = append(errs, err)
		} else if !isKustomization(f.path) && !ours(data) {
			errs = append(errs, fmt.Errorf("%s: was not written by runnerctl render and would be overwritten; use another directory or remove the file", f.path))
		}
	}
	return errors.Join(errs...)
}

// ours reports whether a manifest is as render writes it. An empty one counts as ours.
func ours(data []byte) bool { return len(data) == 0 || strings.Contains(string(data), mark) }

// isKustomization reports whether a file is a kustomization, which may be the user's: of
// that render changes only the resources.
func isKustomization(path string) bool { return slices.Contains(kustomizations, filepath.Base(path)) }

// stage writes the new files and copies of the old ones beside their places.
func (r *replacement) stage() error {
	for _, f := range r.files {
		if err := r.folder(filepath.Dir(f.path)); err != nil {
			return err
		}
		if info, err := os.Lstat(f.path); err == nil && info.Mode().IsRegular() {
			old, err := os.ReadFile(f.path)
			if err != nil {
				return err
			}
			if err := os.WriteFile(f.path+saved, old, info.Mode().Perm()); err != nil { //nolint:gosec // the user names the directory
				return err
			}
			f.before = true
		}
		if f.data == nil {
			continue
		}
		if err := os.WriteFile(f.path+staging, f.data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// folder makes a folder and those above it, and records which it made.
func (r *replacement) folder(path string) error {
	var missing []string
	for at := path; ; at = filepath.Dir(at) {
		if _, err := os.Stat(at); !errors.Is(err, fs.ErrNotExist) || at == filepath.Dir(at) {
			break
		}
		missing = append(missing, at)
	}
	slices.Reverse(missing)
	r.made = append(r.made, missing...)
	return os.MkdirAll(path, 0o755)
}

func (r *replacement) swap() error {
	for _, f := range r.files {
		if info, err := os.Lstat(f.path); err == nil && !info.Mode().IsRegular() {
			return fmt.Errorf("%s: exists and is not a regular file; remove it", f.path)
		}
		if f.data == nil {
			if err := os.Remove(f.path); err != nil {
				return err
			}
		} else if err := os.Rename(f.path+staging, f.path); err != nil {
			return err
		}
		f.placed = true
	}
	return nil
}

// back puts the old files into their places again. The error names each file that
// could not be restored, and where its old content is.
func (r *replacement) back() error {
	var errs []error
	for _, f := range slices.Backward(r.files) {
		switch {
		case !f.placed:
			continue
		case f.before:
			if err := os.Rename(f.path+saved, f.path); err != nil {
				errs = append(errs, fmt.Errorf("%s is the new one, the old one is %s: %w", f.path, f.path+saved, err))
				continue
			}
		default:
			if err := os.Remove(f.path); err != nil {
				errs = append(errs, fmt.Errorf("%s is new and stays: %w", f.path, err))
				continue
			}
		}
		f.placed = false
	}
	return errors.Join(errs...)
}
