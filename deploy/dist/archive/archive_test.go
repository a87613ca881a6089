package archive

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"testing"
	"time"
)

var (
	commit  = time.Date(2026, 11, 26, 12, 30, 15, 500, time.FixedZone("", 2*60*60))
	entries = []Entry{
		{Name: "runnerctl", Mode: 0o755, Content: []byte("program")},
		{Name: "LICENSE", Mode: 0o644, Content: []byte("licence")},
		{Name: "tmp", Mode: fs.ModeDir | fs.ModeSticky | 0o777},
	}
)

// seen is what of an entry must be the same wherever and whenever an archive is written.
type seen struct {
	name, content, owner string
	mode                 int64
	at                   time.Time
}

func TestATarArchiveHasTheEntriesWithTheTimeOfTheCommitAndNoOwner(t *testing.T) {
	var buffer bytes.Buffer
	if err := WriteTarGz(&buffer, commit, entries); err != nil {
		t.Fatal(err)
	}
	unzipped, err := gzip.NewReader(&buffer)
	if err != nil {
		t.Fatal(err)
	}
	if !unzipped.ModTime.IsZero() || unzipped.Name != "" {
		t.Errorf("gzip header has the time %v and the name %q, want neither", unzipped.ModTime, unzipped.Name)
	}
	var got []seen
	for r := tar.NewReader(unzipped); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, seen{header.Name, string(content), fmt.Sprintf("%d:%d %s:%s", header.Uid, header.Gid, header.Uname, header.Gname), header.Mode, header.ModTime.UTC()})
	}
	at := time.Date(2026, 11, 26, 10, 30, 15, 0, time.UTC)
	want := []seen{
		{"runnerctl", "program", "0:0 :", 0o755, at},
		{"LICENSE", "licence", "0:0 :", 0o644, at},
		{"tmp/", "", "0:0 :", 0o1777, at},
	}
	if !slices.Equal(got, want) {
		t.Errorf("entries\n%v, want\n%v", got, want)
	}
}

func TestAZipArchiveHasTheFilesWithTheTimeOfTheCommit(t *testing.T) {
	var buffer bytes.Buffer
	if err := WriteZip(&buffer, commit, entries); err != nil {
		t.Fatal(err)
	}
	r, err := zip.NewReader(bytes.NewReader(buffer.Bytes()), int64(buffer.Len()))
	if err != nil {
		t.Fatal(err)
	}
	var got []seen
	for _, f := range r.File {
		file, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(file)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, seen{f.Name, string(content), "", int64(f.Mode()), f.Modified.UTC()})
	}
	at := time.Date(2026, 11, 26, 10, 30, 15, 0, time.UTC)
	if want := []seen{{"runnerctl", "program", "", 0o755, at}, {"LICENSE", "licence", "", 0o644, at}}; !slices.Equal(got, want) {
		t.Errorf("entries\n%v, want\n%v", got, want)
	}
}

// The zone of the machine must not matter: git writes the committer's.
func TestTheSameArchiveIsWrittenInEveryTimeZone(t *testing.T) {
	for name, write := range map[string]func(io.Writer, time.Time, []Entry) error{"tar.gz": WriteTarGz, "zip": WriteZip} {
		var here, there bytes.Buffer
		if err := write(&here, commit, entries); err != nil {
			t.Fatal(err)
		}
		if err := write(&there, commit.UTC(), entries); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(here.Bytes(), there.Bytes()) {
			t.Errorf("%s: the archives differ", name)
		}
	}
}
