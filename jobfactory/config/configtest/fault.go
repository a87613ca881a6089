package configtest

import (
	"fmt"
	"slices"
	"strings"
)

// mutation spoils one thing of a group that is right.
type mutation struct {
	Fault // with the path from the group on
	// touches are the paths that it changes or relies on. Two mutations of a group
	// touch nothing in common, so that each fault stays what it is.
	touches []string
	// when says which groups it can spoil; nil is all.
	when func(object) bool
	// plant does it.
	plant func(object)
}

// spoil plants one to four faults.
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
		m.plant(d.groups[i])
		touched[i] = append(touched[i], m.touches...)
		fault := m.Fault
		fault.Path = strings.TrimSuffix(fmt.Sprintf("%s[%d].%s", d.list(), i, fault.Path), ".")
		faults = append(faults, fault)
	}
	return faults
}

// spoilFile plants a fault outside of the groups.
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

// spoilName gives the last group the name that the first has, spelled in another way.
func (d *draft) spoilName() Fault {
	first, last := d.groups[0], d.groups[len(d.groups)-1]
	first["namespace"], last["namespace"] = "builds", "builds"
	first["name"], last["name"] = "One & same", "one... SAME!"
	return Fault{Kind: "duplicate name", Path: fmt.Sprintf("%s[%d].name", d.list(), len(d.groups)-1), Given: "one-same"}
}

// overlaps says whether a path lies in one of the others, or one of them in it.
func overlaps(paths []string, path string) bool {
	return slices.ContainsFunc(paths, func(other string) bool {
		return strings.HasPrefix(path+".", other+".") || strings.HasPrefix(other+".", path+".")
	})
}

// put sets the value at a path, with mappings made on the way.
func put(in object, path string, value any) {
	keys := strings.Split(path, ".")
	for _, key := range keys[:len(keys)-1] {
		inner, ok := in[key].(object)
		if !ok {
			inner = object{}
		}
		// A value of the tables is every file's.
		copied := make(object, len(inner)+1)
		for k, v := range inner {
			copied[k] = v
		}
		in[key] = copied
		in = copied
	}
	in[keys[len(keys)-1]] = value
}

// shown is what an error shows of a value.
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

// set puts a value that is wrong by itself.
func set(kind, path string, value any, when ...func(object) bool) mutation {
	m := mutation{Fault: Fault{Kind: kind, Path: path, Given: shown(value)}, touches: []string{path}, plant: func(g object) { put(g, path, value) }}
	if len(when) > 0 {
		m.when = when[0]
	}
	return m
}

// as says how the error shows the value, and at which path within it.
func (m mutation) as(below, given string) mutation {
	m.Path += below
	m.Given = given
	return m
}

// with puts another value that the fault needs to be one; null is not given.
func (m mutation) with(path string, value any) mutation {
	before := m.plant
	m.touches = append(slices.Clone(m.touches), path)
	m.plant = func(g object) {
		before(g)
		put(g, path, value)
	}
	return m
}

// byMode says that it is a fault by what the group's strategy is, or type.
func (m mutation) byMode() mutation {
	m.touches = append(slices.Clone(m.touches), "strategy", "type")
	return m
}

// unknown adds a key that nobody knows.
func unknown(path, key string) mutation {
	at := strings.TrimPrefix(path+"."+key, ".")
	return mutation{Fault: Fault{Kind: "unknown key", Path: path, Given: key}, touches: []string{at}, plant: func(g object) { put(g, at, "x") }}
}

// missing takes away a key that has to be there.
func missing(key string) mutation {
	return mutation{Fault: Fault{Kind: "missing key", Path: key}, touches: []string{key}, plant: func(g object) { delete(g, key) }}
}

// demanded are the groups that follow the demand, by whatever strategy.
func demanded(g object) bool {
	return g["strategy"] != "fixed" && g["strategy"] != "manual" && g["type"] != "manual"
}

// idle are those that follow it by the share of idle runners.
func idle(g object) bool { return demanded(g) && g["strategy"] != "queuedSteps" }

// counted are those with a fixed number of runners, by our name for it.
func counted(g object) bool { return g["strategy"] == "fixed" }

// amd are those on the default architecture.
func amd(g object) bool {
	return g["architecture"] != "arm64" && g["os"] != "linux.arm64"
}
