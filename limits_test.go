// The size of packages, files and types, and how dense the page is, as a test: what grows beyond it is divided.
package bellhop_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Limits of code without tests.
const (
	mostLines     = 3000 // of a package
	mostFileLines = 450
	mostMethods   = 60 // of a type

	mostOperators = 2    // && and || of one expression
	mostCompound  = 0.08 // expressions with more, as a share of the lines of a package, in percent
	leastBlank    = 12.0 // blank lines of a package, in percent
)

// over names what is over a limit of size until it is divided, with its size, a little rounded up. A number here only
// shrinks.
var over = map[string]int{
	"cmd/bellhop": 12950,
}

// A packageSize is what is counted in a package.
type packageSize struct {
	lines, blank int
	functions    int
	compound     []string // expressions of more than mostOperators, by place
	methods      map[string]int
}

func TestSizes(t *testing.T) {
	sizes, set := map[string]*packageSize{}, token.NewFileSet()
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		isOther := !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") || strings.HasPrefix(name, "e2e/")
		if isOther || d.IsDir() || strings.HasPrefix(name, "scripts/") {
			return nil
		}

		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if n := bytes.Count(text, []byte("\n")); n > mostFileLines {
			t.Errorf("%s has %d lines, at most %d are wanted: divide it", name, n, mostFileLines)
		}

		pkg := path.Dir(filepath.ToSlash(name))
		if sizes[pkg] == nil {
			sizes[pkg] = &packageSize{methods: map[string]int{}}
		}
		return sizes[pkg].add(set, name, text)
	})
	if err != nil {
		t.Fatal(err)
	}

	for _, pkg := range slices.Sorted(maps.Keys(sizes)) {
		sizes[pkg].check(t, pkg)
	}
}

// check holds the counts of one package against the limits.
func (s *packageSize) check(t *testing.T, pkg string) {
	if limit := max(mostLines, over[pkg]); s.lines > limit {
		t.Errorf("package %s has %d lines without tests, at most %d are wanted: divide it", pkg, s.lines, limit)
	}
	for name, n := range s.methods {
		if n > mostMethods {
			t.Errorf("%s.%s has %d methods, at most %d are wanted: divide it", pkg, name, n, mostMethods)
		}
	}

	if share := percent(len(s.compound), s.lines); share > mostCompound {
		t.Errorf("package %s: %.2f %% of its lines join more than three conditions, at most %.2f %% are wanted: give parts of them names: %s",
			pkg, share, mostCompound, strings.Join(s.compound, ", "))
	}
	if share := percent(s.blank, s.lines); s.functions > 0 && share < leastBlank {
		t.Errorf("package %s: %.1f %% of its lines are blank, at least %.0f %% are wanted: leave one between the steps of a function", pkg, share, leastBlank)
	}
}

func percent(n, of int) float64 { return 100 * float64(n) / float64(of) }

// add counts a file.
func (s *packageSize) add(set *token.FileSet, name string, text []byte) error {
	for line := range bytes.Lines(text) {
		s.lines++
		if len(bytes.TrimSpace(line)) == 0 {
			s.blank++
		}
	}

	file, err := parser.ParseFile(set, name, text, parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	for _, decl := range file.Decls {
		if f, ok := decl.(*ast.FuncDecl); ok {
			s.functions++
			s.addMethod(f)
		}
	}

	ast.Inspect(file, func(n ast.Node) bool {
		e, ok := n.(ast.Expr)
		if !ok || operators(e) <= mostOperators {
			return true
		}
		s.compound = append(s.compound, set.Position(e.Pos()).String())
		return false
	})
	return nil
}

// addMethod counts a method by its type.
func (s *packageSize) addMethod(f *ast.FuncDecl) {
	if f.Recv == nil {
		return
	}
	of := f.Recv.List[0].Type
	if star, ok := of.(*ast.StarExpr); ok {
		of = star.X
	}
	if id, ok := of.(*ast.Ident); ok {
		s.methods[id.Name]++
	}
}

// operators counts the && and || that join the parts of e.
func operators(e ast.Expr) int {
	switch x := e.(type) {
	case *ast.ParenExpr:
		return operators(x.X)
	case *ast.UnaryExpr:
		return operators(x.X)
	case *ast.BinaryExpr:
		if x.Op == token.LAND || x.Op == token.LOR {
			return 1 + operators(x.X) + operators(x.Y)
		}
	}
	return 0
}
