package config

import (
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

type schema = map[string]any

// Schema returns the JSON Schema (2020-12) of the configuration file, for editors. It
// is made from the reader's tables and accepts everything that Read accepts. Faults
// that involve more than one key are only refused by Read.
func Schema() ([]byte, error) {
	s := &schemaBuilder{defs: schema{}}
	file := s.object(fileKeys)
	file["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	file["title"] = "runners_config.yaml of bitbucket-runner-scaler"
	file["type"] = "object"
	file["additionalProperties"] = true // ignored, with a note
	file["oneOf"] = []schema{{"required": []string{"groups"}}, {"required": []string{"config"}}}
	file["$defs"] = s.defs
	data, err := json.MarshalIndent(file, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	return append(data, '\n'), nil
}

// schemaBuilder collects the definitions of Kubernetes' types.
type schemaBuilder struct{ defs schema }

var underscored = regexp.MustCompile(`_[a-z]`)

// object returns the schema of a mapping, with each key in both spellings. Null
// means that a key is not given.
func (s *schemaBuilder) object(keys []key) schema {
	properties, required := schema{}, []string{}
	for _, key := range keys {
		property := s.value(key.kind)
		property["description"] = key.about
		properties[key.name] = property
		camel := underscored.ReplaceAllStringFunc(key.name, func(s string) string { return strings.ToUpper(s[1:]) })
		if camel != key.name {
			older := s.value(key.kind)
			older["description"] = "Older spelling of " + key.name + "."
			properties[camel] = older
		}
		if key.required {
			required = append(required, key.name)
		}
	}
	object := schema{"type": []string{"object", "null"}, "properties": properties, "additionalProperties": false}
	if len(required) > 0 {
		object["required"] = required
	}
	return object
}

// scalar returns the schema of any YAML scalar, which the reader takes as written.
func scalar() schema { return schema{"type": []string{"string", "number", "boolean", "null"}} }

func (s *schemaBuilder) value(k kind) schema {
	list := func(items schema) schema {
		return schema{"type": []string{"array", "null"}, "maxItems": maxItems, "items": items}
	}
	switch k.of {
	case boolean:
		return schema{"enum": []any{true, false, "true", "false", nil}}
	case texts:
		return list(scalar())
	case words:
		return schema{"type": []string{"object", "null"}, "additionalProperties": scalar()}
	case object:
		return s.object(k.keys)
	case objects:
		groups := list(s.object(k.keys))
		groups["minItems"] = 1
		return groups
	case typed:
		return s.like(reflect.TypeOf(k.like))
	case typedList:
		return list(s.like(reflect.TypeOf(k.like)))
	}
	value := scalar()
	if k.pattern != "" { // applies to strings only; the reader applies it to numbers too
		value["pattern"] = k.pattern
	}
	if k.oneOf != nil {
		choices := make([]any, 0, len(k.oneOf)+1)
		for _, choice := range k.oneOf {
			choices = append(choices, choice)
		}
		value = schema{"enum": append(choices, nil)}
	}
	return value
}

// directives are the keys of a strategic merge patch that are no fields.
var directives = schema{`^\$(patch$|retainKeys$|setElementOrder/|deleteFromPrimitiveList/)`: true}

// like returns the schema of a Kubernetes type, from its JSON tags.
func (s *schemaBuilder) like(t reflect.Type) schema {
	switch t {
	case reflect.TypeFor[resource.Quantity]():
		return schema{"type": []string{"string", "number", "null"}}
	case reflect.TypeFor[intstr.IntOrString]():
		return schema{"type": []string{"string", "integer", "null"}}
	case reflect.TypeFor[metav1.Time]():
		return schema{"type": []string{"string", "null"}}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return s.like(t.Elem())
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return schema{"type": []string{"string", "null"}}
		}
		return schema{"type": []string{"array", "null"}, "items": s.like(t.Elem())}
	case reflect.Map:
		return schema{"type": []string{"object", "null"}, "additionalProperties": s.like(t.Elem())}
	case reflect.Struct:
		if _, known := s.defs[t.Name()]; !known {
			s.defs[t.Name()] = nil // a type may contain itself
			s.defs[t.Name()] = schema{"type": []string{"object", "null"}, "properties": s.fields(t), "patternProperties": directives, "additionalProperties": false}
		}
		return schema{"$ref": "#/$defs/" + t.Name()}
	case reflect.Bool:
		return schema{"type": []string{"boolean", "null"}}
	case reflect.Int32, reflect.Int64, reflect.Int:
		return schema{"type": []string{"integer", "null"}}
	default:
		return schema{"type": []string{"string", "null"}}
	}
}

func (s *schemaBuilder) fields(t reflect.Type) schema {
	properties := schema{}
	for i := range t.NumField() {
		field := t.Field(i)
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		switch {
		case name == "-":
		case name == "" && strings.Contains(options, "inline"):
			for inner, property := range s.fields(field.Type) {
				properties[inner] = property
			}
		case name != "":
			properties[name] = s.like(field.Type)
		}
	}
	return properties
}
