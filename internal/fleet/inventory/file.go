package inventory

import (
	"path"
	"strings"

	"bellhop/internal/fleet/tree"
)

// BadFile says why an object of hosts/ is not the file of a host; "" when it is one.
func BadFile(o tree.Object) string {
	if bad := tree.BadObject(o, false); bad != "" {
		return bad
	}

	ext := path.Ext(o.Name())
	isYAML := ext == ".yaml"
	switch {
	case strings.EqualFold(ext, ".yml"), !isYAML && strings.EqualFold(ext, ".yaml"):
		return "this file is called " + strings.TrimSuffix(o.Name(), ext) + ".yaml"
	case !isYAML || o.Mode.IsDir():
		return "hosts/ holds NAME.yaml, one host each, and nothing else"
	}
	return ""
}
