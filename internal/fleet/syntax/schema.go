package syntax

import (
	"encoding/json"
	"reflect"
	"strings"

	"github.com/invopop/jsonschema"

	"bellhop/internal/fleet/yaml"
)

// Schema is the JSON Schema of the files that people write, as one document: a definition
// each for bellhop.yaml, hosts/NAME.yaml and service.yaml, any of which may be at the top.
// It is made from the types that the loader decodes into.
func Schema() ([]byte, error) {
	r := &jsonschema.Reflector{FieldNameTag: "yaml", DoNotReference: true, Anonymous: true, RequiredFromJSONSchemaTags: true}
	r.Mapper = func(t reflect.Type) *jsonschema.Schema { return mapType(r, t) }
	root := &jsonschema.Schema{Version: jsonschema.Version, Title: "bellhop's config repo", Definitions: jsonschema.Definitions{}}
	for _, def := range []struct {
		name string
		v    any
	}{{"bellhop.yaml", Fleet{}}, {"host.yaml", Host{}}, {"service.yaml", Service{}}} {
		root.Definitions[def.name] = schemaOf(r, reflect.TypeOf(def.v))
		root.AnyOf = append(root.AnyOf, &jsonschema.Schema{Ref: "#/$defs/" + def.name})
	}

	return json.MarshalIndent(root, "", "  ")
}

func schemaOf(r *jsonschema.Reflector, t reflect.Type) *jsonschema.Schema {
	if s := r.Mapper(t); s != nil {
		return s
	}
	s := r.ReflectFromType(t)
	s.Version = ""
	return s
}

// Mappings that may also be written as one word are reflected without their methods.
type (
	userMap    User
	packageMap Package
)

// mapType describes the types that decode themselves.
func mapType(r *jsonschema.Reflector, t reflect.Type) *jsonschema.Schema {
	word := func() *jsonschema.Schema { return anyOf(ofType("string"), ofType("number")) }
	switch t {
	case reflect.TypeFor[yaml.String]():
		return word()
	case reflect.TypeFor[yaml.Duration]():
		d := ofType("string")
		d.Pattern = `^(0|([0-9]*[.]?[0-9]+(ns|us|µs|ms|s|m|h))+)$`
		return d

	case reflect.TypeFor[Probes]():
		probe := anyOf(ofType("string"), schemaOf(r, reflect.TypeFor[Probe]()))
		return anyOf(ofType("null"), probe, &jsonschema.Schema{Type: "array", Items: probe})
	case reflect.TypeFor[Steps]():
		step := schemaOf(r, reflect.TypeFor[Step]())
		return anyOf(ofType("null"), step, &jsonschema.Schema{Type: "array", Items: step})
	case reflect.TypeFor[yaml.Number]():
		return ofType("integer")
	case reflect.TypeFor[yaml.Value]():
		return anyOf(ofType("string"), ofType("number"), ofType("boolean"), ofType("array"), ofType("object"))
	case reflect.TypeFor[yaml.List]():
		return anyOf(ofType("string"), ofType("number"), ofType("null"), &jsonschema.Schema{Type: "array", Items: word()})
	case reflect.TypeFor[Waves]():
		step := anyOf(&jsonschema.Schema{Type: "string", Pattern: `^([1-9][0-9]*|[1-9][0-9]?%|100%|@.+)$`}, ofType("integer"))
		return anyOf(ofType("null"), step, &jsonschema.Schema{Type: "array", Items: step})
	case reflect.TypeFor[PerArch]():
		return anyOf(ofType("string"), &jsonschema.Schema{Type: "object", AdditionalProperties: ofType("string")})
	case reflect.TypeFor[User]():
		return anyOf(ofType("string"), schemaOf(r, reflect.TypeFor[userMap]()))
	case reflect.TypeFor[Package]():
		return anyOf(ofType("string"), schemaOf(r, reflect.TypeFor[packageMap]()))
	case reflect.TypeFor[NixOS]():
		return anyOf(&jsonschema.Schema{Type: "string", Pattern: `^\.#.`}, schemaOf(r, reflect.TypeFor[nixosMap]()))
	case reflect.TypeFor[Keys]():
		return anyOf(&jsonschema.Schema{Type: "array", Items: ofType("string")}, mapOf(schemaOf(r, reflect.TypeFor[Key]())))
	case reflect.TypeFor[Switch]():
		settings := &jsonschema.Schema{Type: "object", Properties: jsonschema.NewProperties()}
		settings.Properties.Set(EnableWord, ofType("boolean"))
		return anyOf(ofType("boolean"), ofType("null"), settings)
	}

	if t.Kind() == reflect.Slice && strings.HasPrefix(t.Name(), "Entries[") {
		v, _ := t.Elem().FieldByName("Value")
		inner := schemaOf(r, v.Type)
		if v.Type.Kind() == reflect.Struct && inner.Type == "object" {
			inner = anyOf(ofType("null"), inner) // a name with nothing behind it takes all defaults
		}
		return anyOf(ofType("null"), mapOf(inner))
	}

	return nil
}

func ofType(name string) *jsonschema.Schema { return &jsonschema.Schema{Type: name} }

func mapOf(s *jsonschema.Schema) *jsonschema.Schema {
	return &jsonschema.Schema{Type: "object", AdditionalProperties: s}
}

func anyOf(ss ...*jsonschema.Schema) *jsonschema.Schema { return &jsonschema.Schema{AnyOf: ss} }
