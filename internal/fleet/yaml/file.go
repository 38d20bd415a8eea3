package yaml

import (
	"fmt"

	"bellhop/internal/fleet/problem"
	"bellhop/internal/fleet/tree"
)

// A File is one file of the tree, with the problems found in it.
type File struct {
	Hash     string
	Name     string
	Data     []byte
	Problems problem.Problems
	Former   bool // read as the release before this one did
	Broken   bool // not YAML at all: what is missing from it is no news
	budget   *tree.Budget
}

// maxFileProblems is how many problems of one file are kept; the rest are counted.
const maxFileProblems = 1000

// Report adds one at a place of the file.
func (t *File) Report(at problem.Pos, format string, args ...any) {
	if len(t.Problems) < maxFileProblems {
		t.Problems = append(t.Problems, problem.At(t.Name, t.Data, at, format, args...))
		return
	}

	if len(t.Problems) == maxFileProblems {
		t.Problems = append(t.Problems, &problem.Problem{File: t.Name})
	}
	rest := t.Problems[maxFileProblems]
	rest.More++
	rest.Message = fmt.Sprintf("and %s more", problem.Thousands(rest.More))
}

// Bounds on one YAML file.
const (
	maxNodes  = 1_000_000 // with what aliases repeat
	maxTokens = 1_000_000
	maxYAML   = 1 << 20 // bytes
	maxMain   = 4 << 20 // bytes of bellhop.yaml, which may hold 20,000 hosts
)

// limit is how many bytes the file may have.
func (t *File) limit() int {
	if t.Name == "bellhop.yaml" {
		return maxMain
	}
	return maxYAML
}
