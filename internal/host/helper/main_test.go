package helper_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"bellhop/internal/host/helper"
	"bellhop/internal/host/machine"
)

// Hosts call every helper in one way, so the one that is nothing else hears the name of the
// subcommand too.
func TestMainDropsTheSubcommand(t *testing.T) {
	opened := errors.New("opened")
	for _, test := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"version"}, 0, ""},
		{[]string{"host-helper", "version"}, 0, ""},
		{[]string{"host-helper", "serve"}, 1, "opened"},
		{[]string{"serve"}, 1, "opened"},
		{[]string{"host-helper", "host-helper", "serve"}, 1, "usage"},
		{[]string{"host-helper"}, 1, "usage"},
		{nil, 1, "usage"},
	} {
		var out, errs bytes.Buffer
		code := helper.Main(test.args, strings.NewReader(""), &out, &errs, func() (*machine.Machine, error) { return nil, opened })
		if code != test.code || !strings.Contains(errs.String(), test.want) {
			t.Errorf("Main(%q) = %d, %q; want %d and %q", test.args, code, errs.String(), test.code, test.want)
		}
	}
}
