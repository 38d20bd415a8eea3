package template

import (
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// row is one of docs/repo.md's tables of fields and functions: what it is about, an example, and what
// that gives.
var row = regexp.MustCompile("(?m)^\\| (`[.a-z].*?) \\| .*?\\| `(\\{\\{.*\\}\\})` \\| `(.*)` \\|$")

// Each field and each function of templates has a row in docs/repo.md.
func TestWordsAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../../docs/repo.md")
	if err != nil {
		t.Fatal(err)
	}

	var named []string
	for _, r := range row.FindAllStringSubmatch(string(doc), -1) {
		named = append(named, regexp.MustCompile("[A-Za-z0-9.]+").FindAllString(r[1], -1)...)
	}
	for _, word := range templateWords() {
		if !slices.Contains(named, word) && !strings.HasPrefix(word, "bellhop") {
			t.Errorf("%s is in no table of docs/repo.md", word)
		}
	}
}

// templateWords are the functions that bellhop gives to templates, and the fields of what they see, as
// a template writes them.
func templateWords() (words []string) {
	for name := range pureFuncs {
		words = append(words, name)
	}
	for prefix, t := range map[string]reflect.Type{".": reflect.TypeFor[*dot](), ".Host.": reflect.TypeFor[*HostView](), ".Fleet.": reflect.TypeFor[*FleetView]()} {
		for i := range t.NumMethod() {
			words = append(words, prefix+t.Method(i).Name)
		}
		for i := range t.Elem().NumField() {
			if f := t.Elem().Field(i); f.IsExported() {
				words = append(words, prefix+f.Name)
			}
		}
	}
	drop := map[string]bool{".Host": true, ".Fleet": true} // the prefix of others
	out := words[:0]
	for _, w := range words {
		isPrinting := strings.HasSuffix(w, ".Format") || strings.HasSuffix(w, ".String")
		if !drop[w] && !isPrinting {
			out = append(out, w)
		}
	}
	return out
}
