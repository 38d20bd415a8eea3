package compose

import (
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
	"go.yaml.in/yaml/v4"

	"bellhop/internal/fleet/problem"
)

// A doc is one compose file, parsed.
type doc struct {
	name    string // in the service's folder
	data    []byte
	root    *yaml.Node // a mapping
	changed bool       // root is not what data says any more

	prepared bool // what it takes from other files is in root
}

// parse reads a compose file; nil when that was reported.
func (r *reading) parse(name string) *doc {
	if d := r.docs[name]; d != nil {
		return d
	}

	data, err := r.bytes(name)
	if err == nil && len(r.docs) == maxFiles {
		err = fmt.Errorf("more than %d compose files belong to this service", maxFiles)
	}
	if err != nil {
		r.reportFile(r.Files[0], "%v", err)
		return nil
	}

	d := &doc{name: name, data: data}
	r.docs[name] = d
	if !r.decode(d) {
		return nil
	}

	size, err := (&counter{memo: map[*yaml.Node]int{}}).size(d.root, 0)
	r.sizes += size
	switch {
	case err != nil:
		r.report(d, problem.Pos{}, "%v", err)
		return nil
	case r.sizes > maxNodes:
		r.report(d, problem.Pos{}, "more than %s values, with what anchors repeat", problem.Thousands(maxNodes))
		return nil
	}

	return d
}

// decode reads the one document of the file.
func (r *reading) decode(d *doc) bool {
	var file, more yaml.Node
	dec := yaml.NewDecoder(strings.NewReader(string(d.data)))
	err := dec.Decode(&file)
	if err == nil && !errors.Is(dec.Decode(&more), io.EOF) {
		r.report(d, problem.Pos{}, "holds more than one document: leave one, without ---")
		return false
	}

	switch {
	case errors.Is(err, io.EOF):
		r.report(d, problem.Pos{}, "is empty: it needs services:")
		return false
	case err != nil:
		r.failYAML(d, err)
		return false
	case len(file.Content) != 1 || file.Content[0].Kind != yaml.MappingNode:
		r.report(d, problem.Pos{Line: 1, Column: 1}, "want a mapping with services:, as compose files have it")
		return false
	}

	d.root = file.Content[0]
	return true
}

func (r *reading) failYAML(d *doc, err error) {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	at := problem.Pos{}
	if m := lineRule.FindStringSubmatch(text); m != nil {
		at.Line, _ = strconv.Atoi(m[1])
		text = strings.TrimPrefix(text, m[0]+": ")
	}
	r.report(d, at, "%s", text)
}

// config is the file as compose-go takes it.
func (d *doc) config() types.ConfigFile {
	out := types.ConfigFile{Filename: d.name, Content: d.data}
	if d.changed {
		out.Content, _ = yaml.Marshal(d.root) // it was parsed from text, so it can be written
	}
	if len(out.Content) == 0 {
		out.Content = []byte("[]") // compose-go opens a file that has no content, and refuses this
	}
	return out
}

// A counter counts nodes, each alias as what it stands for.
type counter struct {
	memo map[*yaml.Node]int // of anchors; -1 while one is counted
}

func (c *counter) size(n *yaml.Node, depth int) (int, error) {
	if depth > maxDepth {
		return 0, fmt.Errorf("nested too deep: more than %d lists and mappings in each other", maxDepth)
	}
	if n.Kind == yaml.AliasNode {
		return c.target(n.Alias, depth)
	}

	total := 1
	for _, child := range n.Content {
		s, err := c.size(child, depth+1)
		if err != nil {
			return 0, err
		}
		if total += s; total > maxNodes {
			return total, nil
		}
	}

	return total, nil
}

func (c *counter) target(n *yaml.Node, depth int) (int, error) {
	if s, ok := c.memo[n]; ok {
		if s < 0 {
			return 0, fmt.Errorf("an anchor holds an alias of itself")
		}
		return s, nil
	}

	c.memo[n] = -1
	s, err := c.size(n, depth+1)
	c.memo[n] = s
	return s, err
}

// child is the value of a key of a mapping, with its key; nil when there is none.
func child(n *yaml.Node, key string) (k, v *yaml.Node) {
	if n = plainNode(n); n == nil || n.Kind != yaml.MappingNode {
		return nil, nil
	}

	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i], n.Content[i+1]
		}
	}

	return nil, nil
}

// plainNode is n, or what the alias n stands for.
func plainNode(n *yaml.Node) *yaml.Node {
	for n != nil && n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

// find is the place of a path of keys: the deepest of it that is written, in the file that has most of it.
// Numbers are those of lists.
func (r *reading) find(keys []string) (*doc, problem.Pos) {
	best, at, depth := r.docs[r.Files[0]], problem.Pos{}, 0
	for _, name := range r.Files {
		if d := r.docs[name]; d != nil {
			if pos, n := d.find(keys); n > depth {
				best, at, depth = d, pos, n
			}
		}
	}

	for _, name := range r.others() {
		if pos, n := r.docs[name].find(keys); n > depth {
			best, at, depth = r.docs[name], pos, n
		}
	}

	return best, at
}

// find is the same in one file; n is how many of the keys are there.
func (d *doc) find(keys []string) (at problem.Pos, n int) {
	node := d.root
	for _, key := range keys {
		k, v := child(node, key)
		if v == nil {
			k, v = element(node, key)
		}
		if v == nil || k.Line == 0 {
			break
		}
		at, node = problem.Pos{Line: k.Line, Column: k.Column}, v
		n++
	}

	return at, n
}

// element is the value of a list that a number names; an error of compose-go may also name it by NAME=.
func element(n *yaml.Node, key string) (k, v *yaml.Node) {
	n = plainNode(n)
	if n == nil || n.Kind != yaml.SequenceNode {
		return nil, nil
	}

	i, err := strconv.Atoi(key)
	if err != nil || i < 0 || i >= len(n.Content) {
		return nil, nil
	}

	return n.Content[i], n.Content[i]
}

// base is the folder of a file, as a name below the service's folder: "." for the top.
func base(name string) string { return path.Dir(name) }
