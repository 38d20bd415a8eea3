package fakeforge

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// schemas are the requests that the forges document, as JSON Schema. Each file names the document that it is taken from.
//
//go:embed schemas
var schemas embed.FS

// An operation is one request that a forge documents. A path has a name in braces for each element that differs.
type operation struct {
	Method string `json:"method"`
	Path   string `json:"path"`

	query, body *jsonschema.Schema // body is nil where none is documented
}

// documented reads the operations of one kind of forge.
func documented(kind string) ([]operation, error) {
	name := "schemas/" + kind + ".json"
	raw, err := schemas.ReadFile(name)
	if err != nil {
		return nil, err
	}

	var file struct {
		Operations []struct {
			operation
			Body json.RawMessage `json:"body"`
		} `json:"operations"`
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}

	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource(name, doc); err != nil {
		return nil, err
	}

	var all []operation
	for i, one := range file.Operations {
		at := fmt.Sprintf("%s#/operations/%d", name, i)
		if one.query, err = c.Compile(at + "/query"); err != nil {
			return nil, err
		}
		if one.Body != nil {
			if one.body, err = c.Compile(at + "/body"); err != nil {
				return nil, err
			}
		}
		all = append(all, one.operation)
	}

	return all, nil
}

// matches says that a request is of this operation.
func (o *operation) matches(method, path string) bool {
	want, got := strings.Split(o.Path, "/"), strings.Split(path, "/")
	if o.Method != method || len(want) != len(got) {
		return false
	}

	for i, element := range want {
		isName := strings.HasPrefix(element, "{") && got[i] != ""
		if !isName && element != got[i] {
			return false
		}
	}

	return true
}

// checkDocumented says what of a request the forge does not document; nil when it documents all of it. The body can be read
// again.
func (f *Forge) checkDocumented(r *http.Request) error {
	path, ok := strings.CutPrefix(f.URL+r.URL.EscapedPath(), f.API())
	if !ok {
		return fmt.Errorf("outside of the API")
	}

	for _, o := range f.operations {
		if o.matches(r.Method, path) {
			return o.check(r)
		}
	}

	return fmt.Errorf("no such request is documented")
}

func (o *operation) check(r *http.Request) error {
	query, err := queryOf(r.URL.RawQuery)
	if err != nil {
		return err
	}
	if err := o.query.Validate(query); err != nil {
		return fmt.Errorf("the query is not as documented for %s: %w", o.Path, err)
	}

	raw, err := io.ReadAll(io.LimitReader(r.Body, 4<<20))
	if err != nil {
		return err
	}
	r.Body = io.NopCloser(bytes.NewReader(raw))

	switch {
	case o.body == nil && len(raw) > 0:
		return fmt.Errorf("a body of %d bytes, and none is documented for %s", len(raw), o.Path)
	case o.body == nil:
		return nil
	}

	body, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		return fmt.Errorf("the body is no JSON: %w", err)
	}
	if err := o.body.Validate(body); err != nil {
		return fmt.Errorf("the body is not as documented for %s: %w", o.Path, err)
	}

	return nil
}

// queryOf is a query as the object that a schema describes. What is named twice is an error.
func queryOf(raw string) (map[string]any, error) {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return nil, err
	}

	query := map[string]any{}
	for name, v := range values {
		if len(v) != 1 {
			return nil, fmt.Errorf("the query has %q %d times", name, len(v))
		}
		query[name] = v[0]
	}

	return query, nil
}
