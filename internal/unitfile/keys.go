package unitfile

import (
	_ "embed"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// The range of systemd that the tables cover.
const (
	OldestSystemd = 245
	NewestSystemd = 257
)

//go:embed keys.txt
var keysText string

// A keyInfo is one line of the table.
type keyInfo struct {
	since, until int    // versions of systemd; 0 is no limit
	kind         string // of the value, as systemd names it
}

// keyTable is keys.txt, by section and key.
var keyTable = sync.OnceValue(func() map[string]map[string]keyInfo {
	table := map[string]map[string]keyInfo{}
	for line := range strings.Lines(keysText) {
		f := strings.Fields(line)
		if len(f) != 5 || f[0] == "#" {
			continue
		}
		since, _ := strconv.Atoi(f[2])
		until, _ := strconv.Atoi(f[3])
		if table[f[0]] == nil {
			table[f[0]] = map[string]keyInfo{}
		}
		table[f[0]][f[1]] = keyInfo{since, until, f[4]}
	}

	return table
})

// keyNames are the keys of each section, sorted.
var keyNames = sync.OnceValue(func() map[string][]string {
	names := map[string][]string{}
	for section, keys := range keyTable() {
		names[section] = slices.Sorted(maps.Keys(keys))
	}

	return names
})

// Keys are the keys that a section may have, sorted. The caller does not change them.
func Keys(section string) []string { return keyNames()[section] }
