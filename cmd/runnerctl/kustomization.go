package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// kustomizations are the names that kustomize looks for. A folder may have one of them.
var kustomizations = []string{"kustomization.yaml", "kustomization.yml", "Kustomization"}

// kustomization is the kustomization of a directory into which render writes. It may be
// the user's own: only its resources change.
type kustomization struct {
	// name of the file, data its content; data is nil if there is none yet.
	name string
	data []byte
}

// readKustomization reads the kustomization of a directory.
func readKustomization(dir string) (kustomization, error) {
	found := kustomization{name: kustomizations[0]}
	for _, name := range kustomizations {
		data, err := os.ReadFile(filepath.Join(dir, name))
		switch info, missing := os.Lstat(filepath.Join(dir, name)); {
		case errors.Is(missing, fs.ErrNotExist), missing == nil && !info.Mode().IsRegular():
			continue // write reports what is no file
		case err != nil:
			return found, err
		case found.data != nil:
			return found, fmt.Errorf("%s: beside %s, of which kustomize accepts only one; remove one of them", filepath.Join(dir, name), found.name)
		}
		found = kustomization{name: name, data: data}
	}
	return found, nil
}

// written matches the paths of manifests that render writes.
var written = regexp.MustCompile(`^[a-z0-9-]+/(namespace|scaledjob-[a-z0-9-]+)\.yaml$`)

// with returns the kustomization's content with these resources instead of those that an
// earlier run has written, and the paths of those that are no longer wanted.
func (k kustomization) with(resources []string) (data []byte, removed []string, err error) {
	var document yaml.Node
	if err := yaml.Unmarshal(k.data, &document); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", k.name, err)
	}
	if len(document.Content) == 0 {
		return []byte("apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n- " + strings.Join(resources, "\n- ") + "\n"), nil, nil
	}
	root := document.Content[0]
	if root.Kind != yaml.MappingNode {
		return nil, nil, fmt.Errorf("%s: want a mapping of keys to values", k.name)
	}
	list := listOf(root, "resources")
	if list == nil {
		return nil, nil, fmt.Errorf("%s: resources: want a list", k.name)
	}
	var kept []*yaml.Node
	have := map[string]bool{}
	for _, item := range list.Content {
		clean := path.Clean(item.Value)
		switch {
		case slices.Contains(resources, clean):
		case written.MatchString(clean):
			removed = append(removed, clean)
			continue
		}
		have[clean] = true
		kept = append(kept, item)
	}
	changed := len(removed) > 0
	for _, resource := range resources {
		if !have[resource] {
			changed = true
			kept = append(kept, &yaml.Node{Kind: yaml.ScalarNode, Value: resource})
		}
	}
	if !changed {
		return k.data, nil, nil
	}
	list.Content = kept
	if len(kept) > 1 {
		list.Style = 0 // one resource per line
	}
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if bytes.Contains(k.data, []byte("\n- ")) {
		encoder.CompactSeqIndent()
	}
	if err := encoder.Encode(&document); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", k.name, err)
	}
	return out.Bytes(), removed, nil
}

// listOf returns the list at a key of a mapping, which is added if it is not there; nil if
// the value is something else.
func listOf(root *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(root.Content); i += 2 {
		if root.Content[i].Value != key {
			continue
		}
		value := root.Content[i+1]
		if value.Kind == yaml.ScalarNode && value.Tag == "!!null" {
			*value = yaml.Node{Kind: yaml.SequenceNode}
		}
		if value.Kind != yaml.SequenceNode {
			return nil
		}
		return value
	}
	list := &yaml.Node{Kind: yaml.SequenceNode}
	root.Content = append(root.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: key}, list)
	return list
}
