// Package manifest fills in what users install from with the version and the image of a release:
// the chart, the rendered kustomize base and the krew manifest.
package manifest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	"golang.org/x/mod/semver"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"

	"bitbucket-runner-scaler/deploy/dist/archive"
)

// Image is the scaler's image in a registry. Digest is that of the index of all platforms.
type Image struct{ Repository, Tag, Digest string }

// Chart returns the chart of dir as `helm package` writes it, with the version of a release, and
// values that name the image by digest. Comments stay.
func Chart(dir, version, homepage string, image Image, when time.Time) ([]byte, error) {
	made, err := chartOf(dir, version, homepage, image)
	if err != nil {
		return nil, fmt.Errorf("chart %s: %w", dir, err)
	}
	entries := make([]archive.Entry, len(made.Raw))
	for i, f := range made.Raw {
		entries[i] = archive.Entry{Name: made.Name() + "/" + f.Name, Mode: 0o644, Content: f.Data}
	}
	// Helm reads the first entry to find the chart.
	slices.SortFunc(entries, func(a, b archive.Entry) int {
		if first := strings.Compare(fmt.Sprint(!isMetadata(a)), fmt.Sprint(!isMetadata(b))); first != 0 {
			return first
		}
		return strings.Compare(a.Name, b.Name)
	})
	var content bytes.Buffer
	if err := archive.WriteTarGz(&content, when, entries); err != nil {
		return nil, err
	}
	return content.Bytes(), nil
}

func isMetadata(e archive.Entry) bool { return strings.HasSuffix(e.Name, "/Chart.yaml") }

// example is the address that the sources have, because they are published nowhere.
const example = "https://example.com/bitbucket-runner-scaler"

func chartOf(dir, version, homepage string, image Image) (*chart.Chart, error) {
	source, err := loader.LoadDir(dir) // without what .helmignore names
	if err != nil {
		return nil, err
	}
	files := make([]*loader.BufferedFile, len(source.Raw))
	for i, f := range source.Raw {
		content := f.Data
		switch f.Name {
		case "Chart.yaml":
			content = bytes.ReplaceAll(content, []byte(example), []byte(homepage))
			if content, err = set(content, "", field{"version", strings.TrimPrefix(version, "v")}, field{"appVersion", version}); err == nil && source.Metadata.Annotations[prerelease] != "" {
				content, err = set(content, "annotations", field{prerelease, strconv.FormatBool(semver.Prerelease(version) != "")})
			}
		case "values.yaml":
			content, err = set(content, "image", field{"repository", image.Repository}, field{"tag", image.Tag}, field{"digest", image.Digest})
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
		files[i] = &loader.BufferedFile{Name: f.Name, Data: content}
	}
	made, err := loader.LoadFiles(files)
	if err != nil {
		return nil, err
	}
	return made, made.Validate()
}

// prerelease is the annotation by which Artifact Hub marks a chart that is not meant for everybody.
const prerelease = "artifacthub.io/prerelease"

type field struct{ name, value string }

// set sets the scalars of the mapping that is named within, or of the document if it is empty. It
// changes only their lines, and adds a field that is missing after the one before it.
func set(text []byte, within string, fields ...field) ([]byte, error) {
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		return nil, err
	}
	if len(document.Content) != 1 {
		return nil, errors.New("empty")
	}
	mapping := document.Content[0]
	if within != "" {
		_, mapping = find(mapping, within)
	}
	if mapping == nil || mapping.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("%s is no mapping", within)
	}
	lines := strings.Split(string(text), "\n")
	last, indent := 0, strings.Repeat(" ", mapping.Column-1)
	var added []string // the lines of missing fields, after the line last
	for _, f := range fields {
		line := fmt.Sprintf("%s%s: %q", indent, f.name, f.value)
		key, value := find(mapping, f.name)
		switch {
		case key == nil && last == 0:
			return nil, fmt.Errorf("%s.%s is missing", within, f.name)
		case key == nil:
			added = append(added, line)
		case value.Kind != yaml.ScalarNode || value.Line != key.Line:
			return nil, fmt.Errorf("%s.%s is no scalar in a line of its own", within, f.name)
		default:
			lines[key.Line-1] = line
			last = key.Line
		}
	}
	return []byte(strings.Join(slices.Insert(lines, last, added...), "\n")), nil
}

// find returns the key and the value of a field, or nil.
func find(mapping *yaml.Node, name string) (key, value *yaml.Node) {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == name {
			return mapping.Content[i], mapping.Content[i+1]
		}
	}
	return nil, nil
}
