//go:build unix

package credentials

import (
	"io/fs"
	"syscall"
)

// inode tells a file that was replaced from one that was not.
func inode(info fs.FileInfo) uint64 {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(stat.Ino) //nolint:unconvert,nolintlint // its type depends on the system
	}
	return 0
}
