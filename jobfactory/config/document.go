package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"

	"go.yaml.in/yaml/v3"

	"bitbucket-runner-scaler/jobfactory"
)

// parse returns the only document of a file. repairs describe what it had to change.
func parse(data []byte) (root *yaml.Node, repairs []string, err error) {
	if len(data) > jobfactory.MaxInput {
		return nil, nil, fmt.Errorf("configuration: %d bytes, want at most %d", len(data), jobfactory.MaxInput)
	}
	root, err = document(data)
	if err == nil {
		return root, nil, nil
	}
	if moved, ok := outdent(data); ok {
		if root, err := document(moved); err == nil {
			return root, []string{"constants is indented below config, where YAML does not allow a key; it is read as if it were not indented"}, nil
		}
	}
	return nil, nil, err
}

func document(data []byte) (*yaml.Node, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var document, further yaml.Node
	if err := decoder.Decode(&document); errors.Is(err, io.EOF) || err == nil && document.Kind == 0 {
		return nil, &jobfactory.ConfigError{Path: "groups", Accepted: "missing, want a list of at least one group"}
	} else if err != nil {
		return nil, fmt.Errorf("configuration: not YAML: %w", err)
	}
	if err := decoder.Decode(&further); !errors.Is(err, io.EOF) {
		return nil, errors.New("configuration: more than one YAML document, want one")
	}
	return document.Content[0], nil
}

var (
	olderForm = regexp.MustCompile(`(?m)^config:`)
	misplaced = regexp.MustCompile(`(?m)^( +)constants:`)
)

// outdent removes the indentation of `constants`, the last block. The README of
// Atlassian's runners-autoscaler indents it below `config`, which is a list, so the
// file in the README is not YAML. Lines keep their numbers.
func outdent(data []byte) ([]byte, bool) {
	at := misplaced.FindSubmatchIndex(data)
	if at == nil || !olderForm.Match(data[:at[0]]) {
		return nil, false
	}
	indent := data[at[2]:at[3]]
	lines := bytes.SplitAfter(data[at[0]:], []byte("\n"))
	for i, line := range lines {
		lines[i] = bytes.TrimPrefix(line, indent)
	}
	return append(bytes.Clone(data[:at[0]]), bytes.Join(lines, nil)...), true
}
