package fleet

import (
	"reflect"
	"strings"
)

// TemplateWords are the functions that bellhop gives to templates, and the fields of what they see, as
// a template writes them.
func TemplateWords() (words []string) {
	for name := range pureFuncs {
		words = append(words, name)
	}
	for prefix, t := range map[string]reflect.Type{".": reflect.TypeFor[*templateData](), ".Host.": reflect.TypeFor[*hostView](), ".Fleet.": reflect.TypeFor[*fleetView]()} {
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
