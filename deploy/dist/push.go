package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"sigs.k8s.io/yaml"

	"bitbucket-runner-scaler/deploy/dist/image"
)

// push checks a distribution and pushes its images and its chart.
func push(ctx context.Context, from, charts string, log io.Writer) error {
	var faults []error
	if from == "" {
		faults = append(faults, errors.New("-from: missing, want the directory that dist build has written"))
	}
	if _, err := image.Repository(charts); err != nil {
		faults = append(faults, fmt.Errorf("-chart-repository: %w", err))
	}
	if err := errors.Join(faults...); err != nil {
		return err
	}
	names, err := verify(from)
	if err != nil {
		return err
	}
	for _, name := range names {
		path := filepath.Join(from, name)
		switch {
		case strings.HasSuffix(name, "-image.tar"):
			pushed, err := image.Push(ctx, path)
			if err != nil {
				return err
			}
			_, _ = fmt.Fprintf(log, "pushed %s\n", pushed)
		case strings.HasSuffix(name, ".tgz"):
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			metadata, err := chartMetadata(content)
			if err != nil {
				return fmt.Errorf("chart %s: %w", path, err)
			}
			pushed, err := image.PushChart(ctx, charts, metadata, content)
			if err != nil {
				return err
			}
			_, _ = fmt.Fprintf(log, "pushed %s\n", pushed)
		}
	}
	return nil
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
