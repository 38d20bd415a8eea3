//go:build ignore

// Figures prints how the code is cut: a row per package with its lines, how long its functions
// are, how many methods its largest type has, and how dense its pages are. Tests and generated
// files are left out. Run it as scripts/figures [DIR].
package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
)

// longFile is how many lines a file may have before it counts as long.
const longFile = 450

// A pkg is what is counted of the files of one folder.
type pkg struct {
	name       string
	files      int
	lines      int
	blank      int
	comment    int
	long       []string       // files over longFile lines
	funcs      []int          // lines of each function
	methods    map[string]int // by receiver
	exported   int
	compound   int // expressions of more than two && and ||
	hasComment bool
}

func main() {
	dir := "."
	if len(os.Args) > 1 {
		dir = os.Args[1]
	}
	pkgs, err := count(dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, "figures:", err)
		os.Exit(1)
	}
	print(pkgs)
}

// count reads all Go files below dir.
func count(dir string) ([]*pkg, error) {
	byDir := map[string]*pkg{}

	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		hidden := strings.HasPrefix(name, ".") && path != dir
		if d.IsDir() && (hidden || name == "testdata") {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}

		rel, err := filepath.Rel(dir, filepath.Dir(path))
		if err != nil {
			return err
		}
		p := byDir[rel]
		if p == nil {
			p = &pkg{name: rel, methods: map[string]int{}}
			byDir[rel] = p
		}
		return p.add(path)
	})
	if err != nil {
		return nil, err
	}

	var pkgs []*pkg
	for _, p := range byDir {
		if p.files > 0 {
			pkgs = append(pkgs, p)
		}
	}
	slices.SortFunc(pkgs, func(a, b *pkg) int { return strings.Compare(a.name, b.name) })
	return pkgs, nil
}

// add counts one file.
func (p *pkg) add(path string) error {
	src, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, path, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	if ast.IsGenerated(file) || isIgnored(src) {
		return nil
	}

	p.files++
	p.hasComment = p.hasComment || file.Doc != nil
	p.addLines(path, string(src))
	for _, decl := range file.Decls {
		p.addDecl(set, decl)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		e, ok := n.(ast.Expr)
		if !ok || operators(e) == 0 {
			return true
		}
		if operators(e) > 2 {
			p.compound++
		}
		return false
	})
	return nil
}

// isIgnored says whether a file has a build tag that keeps it out of every package.
func isIgnored(src []byte) bool { return strings.HasPrefix(string(src), "//go:build ignore") }

// addLines counts lines as a reader sees them.
func (p *pkg) addLines(path, src string) {
	lines := strings.Split(strings.TrimSuffix(src, "\n"), "\n")
	p.lines += len(lines)
	if len(lines) > longFile {
		p.long = append(p.long, fmt.Sprintf("%s %d", filepath.Base(path), len(lines)))
	}

	for _, line := range lines {
		switch line = strings.TrimSpace(line); {
		case line == "":
			p.blank++
		case strings.HasPrefix(line, "//"):
			p.comment++
		}
	}
}

// addDecl counts a function's lines, methods by their receiver, and exported names.
func (p *pkg) addDecl(set *token.FileSet, decl ast.Decl) {
	switch d := decl.(type) {
	case *ast.FuncDecl:
		p.funcs = append(p.funcs, set.Position(d.End()).Line-set.Position(d.Pos()).Line+1)
		if d.Recv != nil {
			p.methods[receiver(d.Recv.List[0].Type)]++
		} else if d.Name.IsExported() {
			p.exported++
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			p.exported += exportedNames(spec)
		}
	}
}

func exportedNames(spec ast.Spec) int {
	n := 0
	switch s := spec.(type) {
	case *ast.TypeSpec:
		if s.Name.IsExported() {
			n++
		}
	case *ast.ValueSpec:
		for _, name := range s.Names {
			if name.IsExported() {
				n++
			}
		}
	}
	return n
}

// receiver is the name of a method's type.
func receiver(e ast.Expr) string {
	switch t := e.(type) {
	case *ast.StarExpr:
		return receiver(t.X)
	case *ast.IndexExpr:
		return receiver(t.X)
	case *ast.Ident:
		return t.Name
	}
	return "?"
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

func print(pkgs []*pkg) {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "package\tfiles\tlines\tfunc p50\tp90\tmax\tmethods\texported\tover 450\t>2 &&,||\t%\tblank %\tcomment %\t")

	all := &pkg{name: "all", methods: map[string]int{}}
	for _, p := range pkgs {
		row(w, p)
		all.files, all.lines, all.blank, all.comment = all.files+p.files, all.lines+p.lines, all.blank+p.blank, all.comment+p.comment
		all.long = append(all.long, p.long...)
		all.funcs = append(all.funcs, p.funcs...)
		all.exported, all.compound = all.exported+p.exported, all.compound+p.compound
		if n, name := largest(p.methods); n > 0 {
			all.methods[p.name+"."+name] = n
		}
	}
	row(w, all)
	_ = w.Flush()

	for _, p := range pkgs {
		if n, name := largest(p.methods); n > 40 {
			fmt.Printf("%s.%s has %d methods\n", p.name, name, n)
		}
		for _, f := range p.long {
			fmt.Printf("%s/%s lines\n", p.name, f)
		}
	}
}

func row(w *tabwriter.Writer, p *pkg) {
	methods, _ := largest(p.methods)
	share := func(n int) float64 { return 100 * float64(n) / float64(max(p.lines, 1)) }

	fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%.2f\t%.1f\t%.1f\t\n", p.name, p.files, p.lines,
		percentile(p.funcs, 50), percentile(p.funcs, 90), percentile(p.funcs, 100), methods, p.exported,
		len(p.long), p.compound, share(p.compound), share(p.blank), share(p.comment))
}

func largest(methods map[string]int) (n int, name string) {
	for typ, count := range methods {
		if count > n || (count == n && typ < name) {
			n, name = count, typ
		}
	}
	return n, name
}

func percentile(list []int, percent int) int {
	if len(list) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(list))
	return sorted[min(len(sorted)-1, len(sorted)*percent/100)]
}
