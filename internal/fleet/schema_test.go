package fleet_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"bellhop/internal/fleet"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

func compile(t *testing.T, def string) *jsonschema.Schema {
	t.Helper()
	p, err := fleet.Schema()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(p))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("bellhop.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("bellhop.json#/$defs/" + def)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func validate(t *testing.T, s *jsonschema.Schema, text string) error {
	t.Helper()
	var v any
	if err := yaml.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	p, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	v, err = jsonschema.UnmarshalJSON(bytes.NewReader(p))
	if err != nil {
		t.Fatal(err)
	}
	return s.Validate(v)
}

func TestSchema(t *testing.T) {
	main, service, host := compile(t, "bellhop.yaml"), compile(t, "service.yaml"), compile(t, "host.yaml")
	for name, c := range map[string]struct {
		schema *jsonschema.Schema
		text   string
		ok     bool
	}{
		"design's bellhop.yaml": {main, designYAML(), true},
		"design's service.yaml": {service, designService, true},
		"short forms":           {service, "user: bot\nkeys: [bot]\npackage: bot.tar.gz\n", true},
		"null settings":         {main, "network: n\nhosts:\n  a: { address: [1.2.3.4, b], host_key: k, services: { x: , y: { z: [1] } } }\n", true},
		"a host":                {host, "address: a\nhost_key: [k, l]\n", true},
		"a NixOS host":          {host, "address: a\nhost_key: k\nnixos: .#a\n", true},
		"a NixOS host by file":  {host, "address: a\nhost_key: k\nnixos: { file: a.nix, attr: b }\n", true},
		"NixOS of elsewhere":    {host, "address: a\nhost_key: k\nnixos: github:x/y#a\n", false},
		"NixOS built elsewhere": {host, "address: a\nhost_key: k\nnixos: { file: a.nix, build_on: target }\n", true},
		"no network":            {main, "hosts: {}\n", false},
		"no address":            {main, "network: n\nhosts: { a: { host_key: k } }\n", false},
		"unknown field":         {main, "network: n\nhost: {}\n", false},
		"unknown key field":     {service, "keys: { a: { sauce: b } }\n", false},
		"enable is no word":     {main, "network: n\nall: { services: { a: { enable: maybe } } }\n", false},
	} {
		if err := validate(t, c.schema, c.text); (err == nil) != c.ok {
			t.Errorf("%s: validate = %v, want ok %v", name, err, c.ok)
		}
	}
}
