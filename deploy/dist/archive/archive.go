// Package archive writes archives whose bytes depend only on what is given: entries in the given
// order, one time for all, no owners. It reads no files.
package archive

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"fmt"
	"io"
	"io/fs"
	"time"
)

// Entry is a file of an archive, or a directory if Mode says so. Name has slashes and is relative.
type Entry struct {
	Name    string
	Mode    fs.FileMode
	Content []byte
}

// WriteTar writes a tar archive. All entries have the time when, and belong to root.
func WriteTar(to io.Writer, when time.Time, entries []Entry) error {
	w := tar.NewWriter(to)
	for _, e := range entries {
		header := &tar.Header{
			Typeflag: tar.TypeReg, Name: e.Name, Size: int64(len(e.Content)), Mode: posix(e.Mode),
			ModTime: when.UTC().Truncate(time.Second), Format: tar.FormatUSTAR,
		}
		if e.Mode.IsDir() {
			header.Typeflag, header.Name = tar.TypeDir, e.Name+"/"
		}
		if len(header.Name) > 100 {
			header.Format = tar.FormatPAX
		}
		if err := w.WriteHeader(header); err != nil {
			return fmt.Errorf("write %s into a tar archive: %w", e.Name, err)
		}
		if _, err := w.Write(e.Content); err != nil {
			return fmt.Errorf("write %s into a tar archive: %w", e.Name, err)
		}
	}
	return w.Close()
}

// posix returns the mode bits of a tar header, with the sticky bit.
func posix(mode fs.FileMode) int64 {
	bits := int64(mode.Perm())
	if mode&fs.ModeSticky != 0 {
		bits |= 0o1000
	}
	return bits
}

// WriteTarGz writes a tar archive that is compressed with gzip.
func WriteTarGz(to io.Writer, when time.Time, entries []Entry) error {
	w, err := gzip.NewWriterLevel(to, gzip.BestCompression)
	if err != nil {
		return err
	}
	if err := WriteTar(w, when, entries); err != nil {
		return err
	}
	return w.Close()
}

// WriteZip writes a zip archive. Directories are left out, because zip needs none.
func WriteZip(to io.Writer, when time.Time, entries []Entry) error {
	w := zip.NewWriter(to)
	for _, e := range entries {
		if e.Mode.IsDir() {
			continue
		}
		header := &zip.FileHeader{Name: e.Name, Method: zip.Deflate, Modified: when.UTC().Truncate(time.Second)}
		header.SetMode(e.Mode)
		file, err := w.CreateHeader(header)
		if err != nil {
			return fmt.Errorf("write %s into a zip archive: %w", e.Name, err)
		}
		if _, err := file.Write(e.Content); err != nil {
			return fmt.Errorf("write %s into a zip archive: %w", e.Name, err)
		}
	}
	return w.Close()
}
