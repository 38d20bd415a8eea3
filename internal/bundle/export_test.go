package bundle

import "slices"

// PartOf is the digest of what a service has of m, also together with others.
func PartOf(m Manifest, service string) string {
	own := m.pick(func(services []string) bool { return slices.Contains(services, service) })
	return own.Digest()
}
