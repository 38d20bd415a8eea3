package unitfile

import (
	_ "embed"
	"strings"
	"sync"
)

//go:embed units.txt
var unitsText string

// vendorUnits are the units that come with systemd.
var vendorUnits = sync.OnceValue(func() map[string]bool {
	units := map[string]bool{}
	for name := range strings.FieldsSeq(unitsText) {
		units[name] = true
	}

	return units
})

// Vendor tells whether a unit comes with systemd, or is made on each host without a file: devices,
// mounts, slices.
func Vendor(name string) bool {
	_, kind := SplitName(name)
	switch kind {
	case "device", "mount", "automount", "swap", "slice", "scope":
		return true
	}

	return vendorUnits()[name] || vendorUnits()[TemplateOf(name)]
}

// VendorUnits are the units that come with systemd, in no order.
func VendorUnits() []string { return strings.Fields(unitsText) }
