package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// checkOut refuses to replace a directory that is not an earlier distribution.
func checkOut(out string) error {
	if out == "" {
		return errors.New("-out: missing, want a directory")
	}
	entries, err := os.ReadDir(out)
	if errors.Is(err, fs.ErrNotExist) || (err == nil && len(entries) == 0) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("-out: %w", err)
	}
	if _, err := os.Stat(filepath.Join(out, sums)); err != nil {
		return fmt.Errorf("-out: %s has files and no %s, so it is no earlier distribution; want an empty directory", out, sums)
	}
	return nil
}

// stage makes an empty directory on the disk of out, that of this build alone. end removes it.
func stage(out string) (dir string, end func(), err error) {
	out = filepath.Clean(out)
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return "", nil, err
	}
	own, err := os.MkdirTemp(filepath.Dir(out), filepath.Base(out)+".new-")
	if err != nil {
		return "", nil, err
	}
	dir = filepath.Join(own, "new") // MkdirTemp's own may be read by one user only
	return dir, func() { _ = os.RemoveAll(own) }, os.Mkdir(dir, 0o755)
}

// replace puts a staged directory in the place of out. If several builds end at once, the last one
// stays, whole.
func replace(dir, out string) error {
	for n := 0; ; n++ {
		err := os.Rename(out, filepath.Join(filepath.Dir(dir), fmt.Sprint("old-", n)))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		err = os.Rename(dir, out)
		if !errors.Is(err, syscall.ENOTEMPTY) && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
}
