package push

import (
	"errors"
	"maps"
	"slices"
	"strings"
)

// A serviceError is what is wrong with services of a bundle on one host.
type serviceError struct{ lines map[string]string }

func (e *serviceError) Error() string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(e.lines)) {
		all = append(all, e.lines[name])
	}
	return strings.Join(all, "\n")
}

// DueTo are the services that an error of a push is due to; none where it is the host's, or nobody knows.
// mayPass says that it may be well by itself tomorrow.
func DueTo(err error) (services []string, mayPass bool) {
	var noPackage *PackageError
	if errors.As(err, &noPackage) {
		return []string{noPackage.Package.Service}, true
	}
	var of *serviceError
	if errors.As(err, &of) {
		return slices.Sorted(maps.Keys(of.lines)), false
	}
	return nil, false
}
