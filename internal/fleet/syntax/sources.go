package syntax

import (
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strings"

	"bellhop/internal/fleet/scalar"
)

var placeholder = regexp.MustCompile(`\{([^{}]*)\}`)

// HostWord is the name of the host in a source; a setting of the same name is not reached.
const HostWord = "host"

// braceName is a name in braces in source:, url: and file:.
var braceName = regexp.MustCompile(`^[A-Za-z0-9_]+$`)

// IsPlaceholder says whether a setting of that name can be written in braces.
func IsPlaceholder(name string) bool { return braceName.MatchString(name) }

// IsPattern says whether a source differs from host to host.
func IsPattern(source string) bool { return strings.ContainsAny(source, "{}") }

// ExpandSource is the age file that source means on one host.
func ExpandSource(source, host string, settings map[string]any) (string, error) {
	return ExpandNames(source, host, settings, pathElement)
}

// ExpandNames is text with the host and settings in place of their names in braces; textOf is what a
// setting becomes.
func ExpandNames(text, host string, settings map[string]any, textOf func(v any) (string, error)) (string, error) {
	var errs []error
	out := placeholder.ReplaceAllStringFunc(text, func(m string) string {
		name := m[1 : len(m)-1]
		if name == HostWord {
			return host
		}
		text, err := textOf(settings[name])
		if err != nil {
			errs = append(errs, fmt.Errorf("setting %s %w", name, err))
		}
		return text
	})

	return out, errors.Join(errs...)
}

// pathElement is the text of a setting that becomes part of one element of a path.
func pathElement(v any) (string, error) {
	switch v.(type) {
	case []any, map[string]any, nil:
		return "", fmt.Errorf("is %s, and a source takes text", scalar.KindOf(v))
	}

	text := fmt.Sprint(v)
	control := strings.ContainsFunc(text, func(c rune) bool { return c < ' ' || c == 0x7f })
	leaves := strings.Contains(text, "/") || strings.Contains(text, "..")
	switch {
	case text == "":
		return "", errors.New("is empty, and a source takes the name of a file")
	case control, leaves, strings.HasPrefix(text, "."), !fs.ValidPath(text):
		return "", fmt.Errorf("is %q, which is no part of a file name: a source takes no slash, no .., no leading dot and no control character", text)
	}

	return text, nil
}

// MatchPart matches the names that one element of a pattern's path can mean, whatever fills its braces.
func MatchPart(part string) *regexp.Regexp {
	var b strings.Builder
	at := 0
	for _, m := range placeholder.FindAllStringIndex(part, -1) {
		b.WriteString(regexp.QuoteMeta(part[at:m[0]]) + ".+")
		at = m[1]
	}

	return regexp.MustCompile("^" + b.String() + regexp.QuoteMeta(part[at:]) + "$")
}

// KeyPlace is where the value of a key name comes from when nothing else is said.
func KeyPlace(name string) string { return "secrets/" + name + ".age" }

// Placeholders are the names in braces in text, in their order.
func Placeholders(text string) []string {
	var names []string
	for _, m := range placeholder.FindAllStringSubmatch(text, -1) {
		names = append(names, m[1])
	}

	return names
}

// WithoutPlaceholders is text less its names in braces.
func WithoutPlaceholders(text string) string { return placeholder.ReplaceAllString(text, "") }

// FillPlaceholders is text with value of each placeholder, which it gets with its braces, in its place.
func FillPlaceholders(text string, value func(placeholder string) string) string {
	return placeholder.ReplaceAllStringFunc(text, value)
}
