package mask

import (
	"encoding/json"
	"strings"
)

// parts are the pieces of a value that are secrets by themselves.
func parts(whole string) []string {
	var out []string
	had := map[string]bool{}
	add := func(s string) {
		s = strings.TrimSpace(s)
		if len(s) >= minPart && !had[s] {
			had[s] = true
			out = append(out, s)
		}
	}

	add(whole)
	for line := range strings.SplitSeq(whole, "\n") {
		add(line)
		for _, sep := range []string{"=", ": "} {
			if _, v, ok := strings.Cut(line, sep); ok {
				add(strings.Trim(strings.TrimSpace(v), `"'`))
			}
		}
	}

	envParts(whole, add)
	var v any
	if json.Unmarshal([]byte(whole), &v) == nil {
		jsonStrings(v, add)
	}
	return out
}

func jsonStrings(v any, add func(string)) {
	switch v := v.(type) {
	case string:
		add(v)
	case []any:
		for _, e := range v {
			jsonStrings(e, add)
		}

	case map[string]any:
		for _, e := range v {
			jsonStrings(e, add)
		}
	}
}
