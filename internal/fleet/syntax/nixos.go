package syntax

import (
	"path"
	"reflect"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"bellhop/internal/fleet/problem"
	"bellhop/internal/fleet/yaml"
)

// NixOS says which NixOS system a host runs: ".#name" for one of the repo's flake, or a file of the repo and what
// in it the system is. At is zero where there is none.
type NixOS struct {
	Attr    yaml.String `yaml:"attr"`
	File    yaml.String `yaml:"file"`
	BuildOn yaml.String `yaml:"build_on" jsonschema:"enum=target" jsonschema_description:"target: the host builds its system; left out, the deployer does"`
	At      problem.Pos `yaml:"-"`
}

// nixosMap is a NixOS that is written as a mapping, without its methods.
type nixosMap NixOS

// Decode reads ".#name", or file and attr.
func (x *NixOS) Decode(d *yaml.Decoder, n ast.Node) {
	r, ok := d.Resolve(n)
	if !ok {
		return
	}
	if _, isMap := r.(ast.MapNode); isMap {
		var m nixosMap
		d.Decode(n, reflect.ValueOf(&m).Elem())
		*x = NixOS(m)
		x.At = yaml.NodeAt(n)
		return
	}

	x.At = yaml.NodeAt(n)
	var s yaml.String
	s.Decode(d, n)
	name, isFlake := strings.CutPrefix(s.S, ".#")
	switch {
	case s.S == "": // said already
	case !isFlake:
		d.Report(s.At, "want .#NAME for nixosConfigurations.NAME of the repo's flake, or { file: hosts/NAME.nix }, not %q", s.S)
	default:
		x.Attr = yaml.String{S: name, At: s.At}
	}
}

const buildOnTarget = "target"

// OnHost says that the host builds the system itself.
func (x *NixOS) OnHost() bool { return x.BuildOn.S == buildOnTarget }

// Trouble is what is wrong with x, and where; "" when nothing is.
func (x *NixOS) Trouble() (string, problem.Pos) {
	switch {
	case x.BuildOn.S != "" && x.BuildOn.S != buildOnTarget:
		return "want build_on: target, for a host that builds its system itself, or no build_on", x.BuildOn.At
	case x.File.S == "" && x.Attr.S == "":
		return "want .#NAME, or file: with a Nix file of this repo", x.At
	case x.File.S == "" && !isNixName(x.Attr.S):
		return "want the name of one of the flake's nixosConfigurations: letters, digits, -, _ and ', beginning with a letter or _", x.Attr.At
	case x.File.S != "" && !isNixFile(x.File.S):
		return "want a Nix file of this repo by its path from the top, as in hosts/lufta.nix", x.File.At
	}

	for name := range strings.SplitSeq(x.Attr.S, ".") {
		if x.Attr.S != "" && !isNixName(name) {
			return "want attributes with dots between them, as in nodes.lufta", x.Attr.At
		}
	}
	return "", problem.Pos{}
}

func isNixFile(name string) bool {
	leadsOut := path.IsAbs(name) || name == ".." || strings.HasPrefix(name, "../")
	inside := name == path.Clean(name) && !leadsOut
	return inside && strings.HasSuffix(name, ".nix") && len(name) <= 255
}

// isNixName says whether s is a name as the Nix language has them.
func isNixName(s string) bool {
	for i, c := range []byte(s) {
		small, capital, digit := 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9'
		letter := small || capital || c == '_'
		later := digit || c == '-' || c == '\''
		if !letter && (i == 0 || !later) {
			return false
		}
	}

	return s != "" && len(s) <= 255
}
