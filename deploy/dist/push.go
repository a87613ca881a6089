package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"bitbucket-runner-scaler/deploy/dist/image"
	"bitbucket-runner-scaler/deploy/dist/release"
)

// published is what a distribution says about itself, in the file of publishedName.
type published struct {
	Version string `json:"version"`
	Places
}

func publishedName(version string) string { return "release-" + version + ".json" }

// push checks a distribution, and pushes its images and then its chart to the places for which it
// was built. given has the flags of the command line, which must not say anything else.
func push(ctx context.Context, from string, given map[string]string, log io.Writer) error {
	if from == "" {
		return errors.New("-from: missing, want the directory that dist build has written")
	}
	names, err := verify(from)
	if err != nil {
		return err
	}
	built, err := readPublished(from, names)
	if err != nil {
		return err
	}
	if err := built.agrees(given); err != nil {
		return err
	}
	for _, name := range names { // the chart names the image, so it comes after it
		if !strings.HasSuffix(name, "-image.tar") {
			continue
		}
		pushed, err := image.Push(ctx, filepath.Join(from, name))
		if err != nil {
			return err
		}
		_, _ = fmt.Fprintf(log, "pushed %s\n", pushed)
	}
	path := filepath.Join(from, chartName(release.Release{Version: built.Version}.Number()))
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	metadata, err := chartMetadata(content)
	if err != nil {
		return fmt.Errorf("chart %s: %w", path, err)
	}
	pushed, err := image.PushChart(ctx, built.Charts, metadata, content)
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(log, "pushed %s\n", pushed)
	return nil
}

// readPublished reads what a distribution with files of these names says about itself.
func readPublished(dir string, names []string) (published, error) {
	at := slices.IndexFunc(names, func(name string) bool { return strings.HasPrefix(name, "release-") })
	if at < 0 {
		return published{}, fmt.Errorf("%s does not have %s; build again", filepath.Join(dir, sums), publishedName("VERSION"))
	}
	text, err := os.ReadFile(filepath.Join(dir, names[at]))
	if err != nil {
		return published{}, err
	}
	var p published
	if err := json.Unmarshal(text, &p); err != nil {
		return published{}, fmt.Errorf("%s: %w", names[at], err)
	}
	return p, nil
}

// agrees returns an error for each flag that differs from what the distribution was built with.
func (p published) agrees(given map[string]string) error {
	built := map[string]string{
		"version": p.Version, "image-repository": p.Image, "emulator-repository": p.Emulator,
		"chart-repository": p.Charts, "download-url": p.Download, "homepage": p.Homepage,
	}
	var faults []error
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if given[name] != built[name] {
			faults = append(faults, fmt.Errorf("-%s: got %q, but these files were built with %q; build again, or leave it out", name, given[name], built[name]))
		}
	}
	return errors.Join(faults...)
}

// verify compares the files of a distribution with its checksums, and returns their names.
func verify(dir string) ([]string, error) {
	text, err := os.ReadFile(filepath.Join(dir, sums))
	if err != nil {
		return nil, fmt.Errorf("read the checksums: %w", err)
	}
	var names []string
	for line := range strings.Lines(string(text)) {
		want, name, ok := strings.Cut(strings.TrimSpace(line), "  ")
		if !ok || !filepath.IsLocal(name) {
			return nil, fmt.Errorf("%s has the line %q, want a checksum and a name", sums, line)
		}
		content, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		if sum := sha256.Sum256(content); hex.EncodeToString(sum[:]) != want {
			return nil, fmt.Errorf("%s differs from its checksum in %s; build again", filepath.Join(dir, name), sums)
		}
		names = append(names, name)
	}
	return names, nil
}

// chartMetadata returns what the Chart.yaml of a packaged chart says. It is the first file.
func chartMetadata(content []byte) (map[string]any, error) {
	unzipped, err := gzip.NewReader(bytes.NewReader(content))
	if err != nil {
		return nil, err
	}
	r := tar.NewReader(unzipped)
	header, err := r.Next()
	if err != nil {
		return nil, err
	}
	if !strings.HasSuffix(header.Name, "/Chart.yaml") {
		return nil, fmt.Errorf("the first file is %s, want Chart.yaml", header.Name)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	var metadata map[string]any
	return metadata, yaml.Unmarshal(text, &metadata)
}
