package jobfactory

import (
	"fmt"
	"slices"
)

// Config is what a configuration file, a runners_config.yaml, says.
type Config struct {
	// Groups in the file's order, valid, names distinct within a namespace.
	Groups []RunnerGroup
	// Places say where each of them stands.
	Places []Place
	// Notes tell of keys that are read and have no effect.
	Notes []string
}

// Place is where a group stands in its file: in which list, and at which index.
type Place struct {
	List  string
	Index int
}

// String is such as groups[0].
func (p Place) String() string { return fmt.Sprintf("%s[%d]", p.List, p.Index) }

// ReadConfig reads a configuration file: `groups`, and optionally `constants`. It
// takes both forms of Atlassian's runners-autoscaler: the snake_case one, and the
// older one with `config`, `type` and keys in camelCase. Unknown keys are refused.
// The error joins every *ConfigError, in the order of lines, with the keys as the
// file spells them.
func ReadConfig(data []byte) (Config, error) { return ReadConfigOn(data, nil) }

// ReadConfigOn is ReadConfig with the groups' defaults from a job template; nil is
// none. The template's notes are the first ones.
func ReadConfigOn(data []byte, template *JobTemplate) (Config, error) {
	config, err := readSound(data, template)
	if err != nil {
		return Config{}, err
	}
	return config, nil
}

// ReadSound is ReadConfig for those who go on after an error: it returns the groups
// that have no fault of their own all the same.
func ReadSound(data []byte) (Config, error) { return readSound(data, nil) }

func readSound(data []byte, template *JobTemplate) (Config, error) {
	root, moved, err := parse(data)
	if err != nil {
		return Config{}, err
	}
	r := &reader{template: template}
	if template != nil {
		moved = append(slices.Clone(template.Notes), moved...)
	}
	file := r.object(root, "", names(fileKeys))
	constants := r.constants(file["constants"])
	config := Config{Notes: append(moved, notes(constants)...)}
	list, groups := r.groups(file, root)
	taken := map[string]string{}
	for i, node := range groups {
		place, before := Place{list, i}, len(r.faults)
		path := place.String()
		group := r.entry(node, path).group(constants)
		if key := group.Namespace + "/" + group.Name; group.Name != "" {
			if first, ok := taken[key]; ok {
				r.add(node, path+".name", group.Name, "another name: in namespace "+group.Namespace+" it is "+first+"'s already")
			} else {
				taken[key] = path
			}
		}
		if len(r.faults) == before {
			config.Groups, config.Places = append(config.Groups, group), append(config.Places, place)
		}
	}
	return config, r.err()
}
