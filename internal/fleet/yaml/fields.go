package yaml

import (
	"reflect"
	"sync"
)

// A field is one key that a struct takes.
type field struct {
	name   string
	index  int
	notYet bool
	former bool   // the former release made nothing of it
	place  string // where it belongs, if not here
}

// NotYet is a field that a later release gives a meaning. It is refused, so that nobody relies on
// something that does nothing.
type NotYet struct{}

// NotHere is a field that belongs into another file, as its tag place says.
type NotHere struct{}

var fieldCache sync.Map // of reflect.Type to []field

// fieldsOf are the fields of a struct that have a yaml tag.
func fieldsOf(t reflect.Type) []field {
	if known, ok := fieldCache.Load(t); ok {
		return known.([]field)
	}

	var fs []field
	for i := range t.NumField() {
		f := t.Field(i)
		if name := f.Tag.Get("yaml"); name != "" && name != "-" {
			yet, place := f.Type == reflect.TypeFor[NotYet](), f.Tag.Get("place")
			fs = append(fs, field{name, i, yet, yet || place != "" || f.Tag.Get("former") != "", place})
		}
	}

	fieldCache.Store(t, fs)

	return fs
}

func fieldNames(fs []field) []string {
	var names []string
	for _, f := range fs {
		if !f.notYet && f.place == "" {
			names = append(names, f.name)
		}
	}

	return names
}
