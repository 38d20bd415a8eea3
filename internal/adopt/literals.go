package adopt

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"bellhop/internal/bundle"
	"bellhop/internal/fleet/compose"
	"bellhop/internal/privatekey"
)

// LiteralsFile is an env file that is not on the host: it has the values that stood in a compose file itself.
const LiteralsFile = "in-compose-files.env"

// A literal is a value of environment: that a compose file has itself.
type literal struct {
	variable, value string
	isMixed         bool // text beside variables, such as a DSN whose host is one
	node            *yaml.Node
	prefix          string // of the scalar: "NAME=" in a list
}

// moveLiterals moves passwords and the like out of the compose files: each becomes a variable, whose value is
// in LiteralsFile. Those who are asked decide; nothing but the place of a value changes, or it is refused.
func (r *reading) moveLiterals(was *compose.Result, composeFiles, env []string) ([]string, error) {
	taken, err := r.namesTaken(env)
	if err != nil {
		return nil, err
	}

	values := map[string]string{} // of new variables
	for _, name := range slices.Sorted(maps.Keys(r.files)) {
		isYAML := path.Ext(name) == ".yaml" || path.Ext(name) == ".yml"
		isEnv := slices.Contains(env, name) || slices.Contains(was.EnvFiles, name)
		if !isYAML || isEnv {
			continue
		}
		if err := r.moveFrom(name, taken, values); err != nil {
			return nil, err
		}
	}

	if len(values) == 0 {
		return env, nil
	}

	var text strings.Builder
	for _, v := range slices.Sorted(maps.Keys(values)) {
		text.WriteString(v + "=" + compose.Quote(values[v]) + "\n")
		r.known[v] = true
	}

	r.files[LiteralsFile], r.names[LiteralsFile] = []byte(text.String()), "600"

	for _, f := range env {
		if r.isInput(was, f) {
			return nil, fmt.Errorf("the compose files on %s set %s to a value that is secret, and a container reads %s by env_file: too: move the value there, and start the project once; or name what is not secret by --plain", r.host.Name, slices.Sorted(maps.Keys(values))[0], f)
		}
	}

	env = append(slices.Clone(env), LiteralsFile)
	return env, r.sameDefinitions(was, composeFiles, env)
}

// namesTaken are the variables that the env files set.
func (r *reading) namesTaken(env []string) (map[string]bool, error) {
	taken := map[string]bool{}
	for _, f := range env {
		data, err := r.read(f)
		if err != nil {
			return nil, err
		}
		names, _ := variables(data)
		for _, n := range names {
			taken[n] = true
		}
	}

	return taken, nil
}

// isUsed says that a compose file takes a variable's value already: it must not get one by this.
func (r *reading) isUsed(variable string) bool {
	return strings.Contains(r.text.String(), "${"+variable) || strings.Contains(r.text.String(), "$"+variable)
}

// moveFrom moves the literals of one compose file.
func (r *reading) moveFrom(name string, taken map[string]bool, values map[string]string) error {
	var file yaml.Node
	if yaml.Unmarshal(r.files[name], &file) != nil {
		return nil // no compose file: something else that a container mounts
	}

	found := &literals{seen: map[*yaml.Node]bool{}}
	found.walk(&file, 0)

	for _, l := range found.all { // in the order of the file
		if _, err := r.isSecret(l.variable); err != nil {
			return err
		}
	}

	lines := bytes.SplitAfter(r.files[name], []byte("\n"))
	slices.SortStableFunc(found.all, func(a, b literal) int {
		return cmp.Or(cmp.Compare(b.node.Line, a.node.Line), cmp.Compare(b.node.Column, a.node.Column)) // from the end
	})
	isChanged := false
	for _, l := range found.all {
		if !r.known[l.variable] {
			continue
		}
		if l.isMixed {
			return r.cannotMove(name, l, "it is made of variables and other text")
		}

		hasOther := func(v string) bool { return values[v] != "" && values[v] != l.value }
		v := l.variable
		for n := 2; taken[v] || r.isUsed(v) || hasOther(v); n++ {
			v = fmt.Sprintf("%s_%d", l.variable, n)
		}
		if !replaceScalar(lines, l, v) {
			return r.cannotMove(name, l, "its place in the file is not simple to change")
		}
		values[v], isChanged = l.value, true
	}

	if isChanged {
		r.files[name] = bytes.Join(lines, nil)
	}

	return nil
}

func (r *reading) cannotMove(file string, l literal, why string) error {
	return fmt.Errorf("%s:%d on %s sets %s to a value that is secret, and %s: move it to .env there, as %s: ${%s}, and start the project once; or say by --plain %s that it is not secret",
		file, l.node.Line, r.host.Name, l.variable, why, l.variable, l.variable, l.variable)
}

// sameDefinitions refuses what would change a container by moving values.
func (r *reading) sameDefinitions(was *compose.Result, composeFiles, env []string) error {
	now, err := r.parse(composeFiles, env, "")
	if err != nil {
		return err
	}

	for _, c := range was.Project.Containers {
		o := now.Project.ContainerOf(c.Name)
		if o == nil || o.Definition != c.Definition {
			return fmt.Errorf("a password in the compose files on %s can't be moved to a secret without a change of the container %s: move it to .env there, and start the project once; or name it by --plain", r.host.Name, c.Name)
		}
	}

	*was = now
	return nil
}

// literals finds the values of all mappings and lists that are called environment.
type literals struct {
	all  []literal
	seen map[*yaml.Node]bool
}

const maxNested = 100

func (f *literals) walk(n *yaml.Node, depth int) {
	if depth > maxNested || n.Kind == yaml.AliasNode {
		return // what an alias stands for is in the file too
	}

	for i, c := range n.Content {
		isValue := n.Kind == yaml.MappingNode && i%2 == 1
		if isValue && n.Content[i-1].Value == "environment" {
			f.environment(c, depth)
			continue
		}
		f.walk(c, depth+1)
	}
}

// environment takes what looks secret from a mapping or a list, and from what it merges.
func (f *literals) environment(n *yaml.Node, depth int) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if depth > maxNested || f.seen[n] {
		return
	}

	f.seen[n] = true

	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, value := n.Content[i], n.Content[i+1]
			if key.Value == "<<" {
				f.merged(value, depth)
				continue
			}
			if value.Kind == yaml.AliasNode {
				value = value.Alias
			}
			f.take(key.Value, value.Value, "", value)
		}
	case yaml.SequenceNode:
		for _, item := range n.Content {
			if name, value, ok := strings.Cut(item.Value, "="); ok {
				f.take(name, value, name+"=", item)
			}
		}
	}
}

func (f *literals) merged(n *yaml.Node, depth int) {
	if n.Kind != yaml.SequenceNode {
		f.environment(n, depth+1)
		return
	}
	for _, c := range n.Content {
		f.environment(c, depth+1)
	}
}

var (
	// plainVariable is a variable without a default in a value of a compose file.
	plainVariable = regexp.MustCompile(`\$\{[A-Za-z_][A-Za-z0-9_]*\}|\$[A-Za-z_][A-Za-z0-9_]*`)
	// noSecret is a value that says how something is done.
	noSecret = regexp.MustCompile(`(?i)^(true|false|yes|no|on|off|none|null|[0-9]{1,2}|)$`)
)

func (f *literals) take(variable, value, prefix string, node *yaml.Node) {
	text := strings.ReplaceAll(value, "$$", "")
	rest := plainVariable.ReplaceAllString(text, "")
	isSecret := likelySecret.MatchString(variable) && !strings.HasSuffix(variable, "_FILE") && !noSecret.MatchString(value)
	isVariables := text != rest && rest == ""
	if !isSecret || isVariables {
		return
	}
	if node.Kind != yaml.ScalarNode || f.seen[node] {
		return
	}

	f.seen[node] = true
	f.all = append(f.all, literal{variable, strings.ReplaceAll(value, "$$", "$"), text != rest || strings.Contains(rest, "$"), node, prefix})
}

// replaceScalar has the scalar of a literal name a variable. It is false where the scalar is not one piece of one line.
func replaceScalar(lines [][]byte, l literal, variable string) bool {
	if l.node.Line > len(lines) {
		return false
	}

	line := []rune(string(lines[l.node.Line-1]))
	at := l.node.Column - 1
	if at < 0 || at >= len(line) {
		return false
	}

	raw := string(line[at:])
	end := scalarEnd(raw, l.node)
	if end < 0 {
		return false
	}
	var again string
	if yaml.Unmarshal([]byte(raw[:end]), &again) != nil || again != l.node.Value {
		return false
	}

	lines[l.node.Line-1] = []byte(string(line[:at]) + `"` + l.prefix + "${" + variable + `}"` + raw[end:])
	return true
}

// scalarEnd is where the scalar that raw begins with ends; -1 where that is not known.
func scalarEnd(raw string, n *yaml.Node) int {
	switch {
	case n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 || n.Anchor != "" || n.Style&yaml.TaggedStyle != 0:
		return -1
	case raw[0] == '"' || raw[0] == '\'':
		for i := 1; i < len(raw); i++ {
			isDouble := strings.HasPrefix(raw[i:], "''")
			switch {
			case raw[i] == '\\' && raw[0] == '"':
				i++
			case raw[0] == '\'' && isDouble:
				i++
			case raw[i] == raw[0]:
				return i + 1
			}
		}
		return -1
	case strings.HasPrefix(raw, n.Value):
		return len(n.Value)
	}
	return -1
}

// secretFile says whether a file that is no file of variables is secret: by its name or as a private key, and as those
// who are asked say.
func (r *reading) secretFile(name string, data []byte) (bool, error) {
	kind, _ := privatekey.Find(data)
	base := path.Base(name)
	isLikely := kind != "" || slices.Contains(secretExts, path.Ext(base)) || secretNames.MatchString(strings.TrimSuffix(base, path.Ext(base)))
	if !isLikely {
		return false, nil
	}

	return r.IsSecret(name, true)
}

var (
	secretExts  = []string{".key", ".p12", ".pfx", ".jks", ".keystore", ".kdbx", ".htpasswd"}
	secretNames = regexp.MustCompile(`(?i)^(.*[._-])?(passwords?|passwd|secrets?|tokens?|credentials?|htpasswd|private[._-]?key|id_(rsa|ed25519|ecdsa))$`)
)

// sealMounted seals a file that containers mount.
func (r *reading) sealMounted(result *compose.Result, name string) error {
	if r.isInput(result, name) {
		return fmt.Errorf("%s on %s goes into an image that is built, and is secret: have the build take it as a secret, or say by --plain %s that it is none", name, r.host.Name, name)
	}
	return r.sealFile(name)
}

// isInput says that the bytes of a file are in the definition of a container.
func (r *reading) isInput(result *compose.Result, name string) bool {
	return slices.ContainsFunc(result.Project.Containers, func(c bundle.Container) bool { return slices.Contains(c.Inputs, r.Dir+"/"+name) })
}
