// The size of packages, files and types as a test: what grows beyond it is divided.
package bellhop_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
)

// Limits of code without tests.
const (
	mostLines     = 3000 // of a package
	mostFileLines = 450
	mostMethods   = 60 // of a type
)

// over names what is over a limit until it is divided, with its size, a little rounded up. A number here only shrinks.
var over = map[string]int{
	"cmd/bellhop": 12950,
}

func TestSizes(t *testing.T) {
	lines, methods := map[string]int{}, map[string]int{}
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		isOther := !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") || strings.HasPrefix(name, "e2e/") || strings.HasPrefix(name, "scripts/")
		if d.IsDir() || isOther {
			return nil
		}

		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		n, pkg := bytes.Count(text, []byte("\n")), path.Dir(filepath.ToSlash(name))
		lines[pkg] += n
		if n > max(mostFileLines, over[name]) {
			t.Errorf("%s has %d lines, at most %d are wanted: divide it", name, n, mostFileLines)
		}
		return countMethods(name, text, pkg, methods)
	})
	if err != nil {
		t.Fatal(err)
	}

	for pkg, n := range lines {
		if limit := max(mostLines, over[pkg]); n > limit {
			t.Errorf("package %s has %d lines without tests, at most %d are wanted: divide it", pkg, n, limit)
		}
	}
	for name, n := range methods {
		if n > max(mostMethods, over[name]) {
			t.Errorf("%s has %d methods, at most %d are wanted: divide it", name, n, mostMethods)
		}
	}
}

// countMethods adds the methods of a file, by package and type.
func countMethods(name string, text []byte, pkg string, methods map[string]int) error {
	file, err := parser.ParseFile(token.NewFileSet(), name, text, parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	for _, decl := range file.Decls {
		f, ok := decl.(*ast.FuncDecl)
		if !ok || f.Recv == nil {
			continue
		}
		of := f.Recv.List[0].Type
		if star, ok := of.(*ast.StarExpr); ok {
			of = star.X
		}
		if id, ok := of.(*ast.Ident); ok {
			methods[pkg+"."+id.Name]++
		}
	}
	return nil
}
