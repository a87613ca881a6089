package credentials

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"bitbucket-runner-scaler/bitbucket"
)

// files are what the folder of a set said when it was last read without an error. An
// error may have a cause that shows in no file, and is not remembered.
type files struct {
	stamp       string
	credentials bitbucket.Credentials
	serves      Serves
}

// readFiles reads the folder of a set, if it has changed since it was last read: every
// snapshot asks for every group.
func (s *Store) readFiles(name string) (bitbucket.Credentials, Serves, error) {
	dir := filepath.Join(s.dir, name)
	stamp := stampOf(dir)
	s.mu.Lock()
	defer s.mu.Unlock()
	if read, ok := s.files[name]; ok && read.stamp == stamp {
		return read.credentials, read.serves, nil
	}
	read := files{stamp: stamp}
	var err error
	if read.credentials, err = bitbucket.CredentialsFromDir(dir); err == nil {
		read.serves, err = readServes(dir)
	}
	if err != nil {
		delete(s.files, name)
		return bitbucket.Credentials{}, read.serves, err
	}
	s.files[name] = read
	return read.credentials, read.serves, nil
}

// stampOf changes whenever a file of a folder does: one that is replaced is another
// inode, and the files of a mounted Secret are reached through a link that is replaced.
func stampOf(dir string) string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err.Error()
	}
	var stamp strings.Builder
	for _, entry := range entries {
		if info, err := os.Stat(filepath.Join(dir, entry.Name())); err == nil {
			fmt.Fprintf(&stamp, "%s %d %d %d\n", entry.Name(), inode(info), info.Size(), info.ModTime().UnixNano())
		} else {
			fmt.Fprintf(&stamp, "%s %v\n", entry.Name(), err)
		}
	}
	return stamp.String()
}
