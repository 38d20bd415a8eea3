package main

import (
	"strings"
	"testing"

	"bellhop/internal/causes"
)

func TestManyHostsOfOneCauseAreCounted(t *testing.T) {
	var errs []causes.Error
	for range 20 {
		errs = append(errs, causes.Error{Host: "h", Text: "x"})
	}
	var out strings.Builder
	printCauses(&out, paint(false), "", causes.Fold(errs, ""))
	if !strings.Contains(out.String(), "and 12 more: x") {
		t.Errorf("20 hosts of one cause: %q", out.String())
	}
}
