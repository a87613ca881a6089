package jobfactory

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"

	"go.yaml.in/yaml/v3"
)

// maxFile bounds a configuration file, in bytes.
const maxFile = 1 << 20

// parse finds the one document of a file. The notes tell what it had to put right.
func parse(data []byte) (root *yaml.Node, notes []string, err error) {
	if len(data) > maxFile {
		return nil, nil, fmt.Errorf("configuration: %d bytes, want at most %d", len(data), maxFile)
	}
	root, err = document(data)
	if err == nil {
		return root, nil, nil
	}
	if moved, ok := outdent(data); ok {
		if root, err := document(moved); err == nil {
			return root, []string{"constants stands below config and is read as if it began at the line's beginning: a list's items and a key cannot share an indentation"}, nil
		}
	}
	return nil, nil, err
}

func document(data []byte) (*yaml.Node, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var document, further yaml.Node
	if err := decoder.Decode(&document); errors.Is(err, io.EOF) || err == nil && document.Kind == 0 {
		return nil, fault("groups", "", "missing, want a list of at least one group")
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

// outdent moves the last block, `constants`, to the lines' beginning. The README
// of Atlassian's runners-autoscaler prints it indented below `config`, which is a
// list, so that the file as printed is not YAML. Lines keep their numbers.
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
