package configtest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// mutation adds one fault to a valid group.
type mutation struct {
	Fault // with the path within the group
	// touches are the paths that the mutation changes or depends on. Two mutations of a
	// group touch different paths, so that they do not change each other's fault.
	touches []string
	// when reports whether the mutation applies to a group; nil means always.
	when func(object) bool
	// apply changes the group.
	apply func(object)
}

// spoil adds one to four faults.
func (d *draft) spoil() []Fault {
	if d.chance(40) {
		d.top[d.list()] = []any{}
		return []Fault{{Kind: "missing key", Path: d.list()}}
	}
	var faults []Fault
	if d.chance(6) {
		faults = append(faults, d.spoilFile()...)
	}
	touched := make([][]string, len(d.groups))
	if d.chance(8) && len(d.groups) > 1 {
		faults = append(faults, d.spoilName())
		for i := range touched {
			touched[i] = []string{"name", "namespace"}
		}
	}
	mutations := slices.Concat(mutations, contradictions, podMutations)
	for want := d.between(max(1, len(faults)), 4); len(faults) < want; {
		i := d.IntN(len(d.groups))
		m := mutations[d.IntN(len(mutations))]
		if m.when != nil && !m.when(d.groups[i]) || slices.ContainsFunc(m.touches, func(path string) bool { return overlaps(touched[i], path) }) {
			continue
		}
		m.apply(d.groups[i])
		touched[i] = append(touched[i], m.touches...)
		fault := m.Fault
		fault.Path = strings.TrimSuffix(fmt.Sprintf("%s[%d].%s", d.list(), i, fault.Path), ".")
		faults = append(faults, fault)
	}
	return faults
}

// spoilFile adds a fault outside of the groups.
func (d *draft) spoilFile() []Fault {
	switch n := d.IntN(6); {
	case n == 0:
		d.top["constants"] = []any{1}
		return []Fault{{Kind: "wrong type", Path: "constants", Given: "a list"}}
	case n == 1:
		d.top["constants"] = object{"poll": 1}
		return []Fault{{Kind: "unknown key", Path: "constants", Given: "poll"}}
	case n == 2 && d.form != Older:
		d.top["config"] = []any{object{}}
		return []Fault{{Kind: "contradiction", Path: "config", Given: "a list"}}
	case n == 3:
		d.top["constants"] = object{"runner_cool_down_period": "often"}
		return []Fault{{Kind: "bad duration", Path: "constants.runner_cool_down_period", Given: "often"}}
	case n == 4:
		d.top["constants"] = object{"default_runner_kubernetes_namespace": "kube-system"}
		return []Fault{{Kind: "reserved namespace", Path: "constants.default_runner_kubernetes_namespace", Given: "kube-system"}}
	default:
		d.top["group"] = "x"
		return []Fault{{Kind: "unknown key", Path: "file", Given: "group"}}
	}
}

// spoilName gives the last group the name of the first, in another spelling.
func (d *draft) spoilName() Fault {
	first, last := d.groups[0], d.groups[len(d.groups)-1]
	first["namespace"], last["namespace"] = "builds", "builds"
	first["name"], last["name"] = "One & same", "one... SAME!"
	return Fault{Kind: "duplicate name", Path: fmt.Sprintf("%s[%d].name", d.list(), len(d.groups)-1), Given: "one-same"}
}

// overlaps reports whether a path is inside one of the others, or contains one.
func overlaps(paths []string, path string) bool {
	return slices.ContainsFunc(paths, func(other string) bool {
		return strings.HasPrefix(path+".", other+".") || strings.HasPrefix(other+".", path+".")
	})
}

// put sets the value at a path and creates the mappings above it.
func put(in object, path string, value any) {
	keys := strings.Split(path, ".")
	for _, key := range keys[:len(keys)-1] {
		inner, ok := in[key].(object)
		if !ok {
			inner = object{}
		}
		// The tables share their values among all files.
		inner = maps.Clone(inner)
		in[key] = inner
		in = inner
	}
	in[keys[len(keys)-1]] = value
}

// shown returns what an error shows of a value.
func shown(value any) string {
	switch v := value.(type) {
	case object:
		return "a mapping"
	case []any:
		return "a list"
	case nil:
		return ""
	default:
		return fmt.Sprint(v)
	}
}

// set returns a mutation that sets a value that is wrong by itself.
func set(kind, path string, value any, when ...func(object) bool) mutation {
	m := mutation{Fault: Fault{Kind: kind, Path: path, Given: shown(value)}, touches: []string{path}, apply: func(g object) { put(g, path, value) }}
	if len(when) > 0 {
		m.when = when[0]
	}
	return m
}

// as changes the path and the value that the error shows.
func (m mutation) as(below, given string) mutation {
	m.Path += below
	m.Given = given
	return m
}

// with also sets another value, on which the fault depends; null means not given.
func (m mutation) with(path string, value any) mutation {
	before := m.apply
	m.touches = append(slices.Clone(m.touches), path)
	m.apply = func(g object) {
		before(g)
		put(g, path, value)
	}
	return m
}

// byMode marks a fault that depends on the group's strategy or type.
func (m mutation) byMode() mutation {
	m.touches = append(slices.Clone(m.touches), "strategy", "type")
	return m
}

// unknown returns a mutation that adds an unknown key.
func unknown(path, key string) mutation {
	at := strings.TrimPrefix(path+"."+key, ".")
	return mutation{Fault: Fault{Kind: "unknown key", Path: path, Given: key}, touches: []string{at}, apply: func(g object) { put(g, at, "x") }}
}

// missing returns a mutation that removes a required key.
func missing(key string) mutation {
	return mutation{Fault: Fault{Kind: "missing key", Path: key}, touches: []string{key}, apply: func(g object) { delete(g, key) }}
}

// demanded reports whether a group follows the demand, with any strategy.
func demanded(g object) bool {
	return g["strategy"] != "fixed" && g["strategy"] != "manual" && g["type"] != "manual"
}

// idle reports whether a group follows the share of idle runners.
func idle(g object) bool { return demanded(g) && g["strategy"] != "queuedSteps" }

// counted reports whether a group has the strategy fixed.
func counted(g object) bool { return g["strategy"] == "fixed" }

// amd reports whether a group has the default architecture.
func amd(g object) bool {
	return g["architecture"] != "arm64" && g["os"] != "linux.arm64"
}
