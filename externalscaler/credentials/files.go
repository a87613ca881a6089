package credentials

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"bitbucket-runner-scaler/bitbucket"
)

// files are what the folder of a set said when it was last read.
type files struct {
	stamp       string
	credentials bitbucket.Credentials
	serves      Serves
	err         error
}

// readFiles reads the folder of a set, if it has changed since it was last read: every
// snapshot asks for every group.
func (s *Store) readFiles(name string) (bitbucket.Credentials, Serves, error) {
	dir := filepath.Join(s.dir, name)
	stamp := stampOf(dir)
	s.mu.Lock()
	defer s.mu.Unlock()
	if read, ok := s.files[name]; ok && read.stamp == stamp {
		return read.credentials, read.serves, read.err
	}
	read := files{stamp: stamp}
	if read.credentials, read.err = bitbucket.CredentialsFromDir(dir); read.err == nil {
		read.serves, read.err = readServes(dir)
	}
	if len(s.files) >= maxSets { // names come from the metadata of ScaledJobs
		clear(s.files)
	}
	s.files[name] = read
	return read.credentials, read.serves, read.err
}

// maxSets bounds the memory of what was read.
const maxSets = 1000

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
