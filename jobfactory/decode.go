package jobfactory

import (
	"encoding/json"
	"errors"
	"regexp"
	"strings"

	strict "sigs.k8s.io/json"
)

// MaxInput bounds each file that is read: a configuration, a job template or
// manifests, in bytes.
const MaxInput = 1 << 20

var (
	unknownField   = regexp.MustCompile(`^unknown field "(.+)"$`)
	duplicateField = regexp.MustCompile(`^duplicate field "(.+)"$`)
)

// DecodeStrict decodes JSON into a Kubernetes type. It returns a fault for each key
// that the type does not have in exactly this spelling, for each key that is given
// twice, and for a value of another type.
func DecodeStrict(data []byte, path string, into any) []*ConfigError {
	keys, err := strict.UnmarshalStrict(data, into)
	var f faults
	for _, e := range keys {
		if field := unknownField.FindStringSubmatch(e.Error()); field != nil {
			f = append(f, &ConfigError{Path: path + "." + field[1], Accepted: "unknown key, want those of Kubernetes"})
		} else if field := duplicateField.FindStringSubmatch(e.Error()); field != nil {
			f = append(f, &ConfigError{Path: path + "." + field[1], Accepted: "given twice, want it once"})
		}
	}
	var mistyped *json.UnmarshalTypeError
	switch {
	case errors.As(err, &mistyped):
		f.add(strings.TrimSuffix(path+"."+mistyped.Field, "."), "a "+mistyped.Value, "a value of type "+mistyped.Type.String())
	case err != nil:
		f = append(f, &ConfigError{Path: path, Accepted: "want a value that Kubernetes accepts: " + err.Error()})
	}
	return f
}
