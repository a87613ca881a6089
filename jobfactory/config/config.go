package config

import (
	"fmt"
	"slices"

	"bitbucket-runner-scaler/jobfactory"
	"bitbucket-runner-scaler/jobfactory/config/jobtemplate"
)

// File is the content of a configuration file.
type File struct {
	// Groups in the file's order. They are valid, and their names are distinct within
	// a namespace.
	Groups []jobfactory.RunnerGroup
	// Positions of the groups in the file.
	Positions []Position
	// Notes name the keys that are read and have no effect, and what replaces them.
	Notes []string
}

// Position is the list and the index at which a group is in its file.
type Position struct {
	List  string
	Index int
}

// String returns the position as a path, such as groups[0].
func (p Position) String() string { return fmt.Sprintf("%s[%d]", p.List, p.Index) }

// Read reads a configuration file. It accepts both forms of Atlassian's
// runners-autoscaler: the one with `groups` and keys in snake_case, and the older
// one with `config`, `type` and keys in camelCase. Unknown keys are refused. The
// error joins every *jobfactory.ConfigError, in the order of lines, with the keys
// as the file spells them.
func Read(data []byte) (File, error) { return ReadWithTemplate(data, nil) }

// ReadWithTemplate is Read with a job template for the groups' defaults; nil means
// no template. The template's notes come first.
func ReadWithTemplate(data []byte, template *jobtemplate.Template) (File, error) {
	source, err := Find(data)
	if err != nil {
		return File{}, err
	}
	file, err := read(source, template)
	if err != nil {
		return File{}, err
	}
	return file, nil
}

// ReadPartial is Read of a configuration that was found already, for callers who continue
// after an error: with the error it returns the groups that have no fault.
func ReadPartial(source Source) (File, error) { return read(source, nil) }

func read(source Source, template *jobtemplate.Template) (File, error) {
	if source.Err != nil {
		return File{}, source.Err
	}
	r := &reader{template: template}
	var file File
	if template != nil {
		file.Notes = slices.Clone(template.Notes)
	}
	root, others := withoutOtherKeys(source.Root)
	fields := r.object(root, "", names(fileKeys))
	constants := r.constants(fields["constants"])
	file.Notes = slices.Concat(file.Notes, source.Notes, otherNotes(others), notes(constants))
	list, groups := r.groups(fields, root, others)
	taken := map[string]string{}
	for i, node := range groups {
		position, before := Position{list, i}, len(r.faults)
		path := position.String()
		group := r.entry(node, path).group(constants)
		if key := group.Namespace + "/" + group.Name; group.Name != "" {
			if first, ok := taken[key]; ok {
				r.add(node, path+".name", group.Name, "another name: in namespace "+group.Namespace+" it is already the name of "+first)
			} else {
				taken[key] = path
			}
		}
		if len(r.faults) == before {
			file.Groups, file.Positions = append(file.Groups, group), append(file.Positions, position)
		}
	}
	return file, r.err()
}
