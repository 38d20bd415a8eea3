package plain

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// Foreign is text that a host said. It has no String method on purpose, and fmt, slog and
// errors show only that there is some: a secret value, or an escape sequence, may stand in it.
// Only Filtered makes a string of it. In JSON it is a plain string. The zero Foreign is empty.
type Foreign struct {
	text *string // behind a pointer, so that no reflection prints it
}

// NewForeign marks s as text that a host said.
func NewForeign(s string) Foreign {
	if s == "" {
		return Foreign{}
	}
	return Foreign{&s}
}

// Filtered returns the text as filter makes it fit to be shown. The filter is called once, for
// an empty text too.
func (f Foreign) Filtered(filter func(string) string) string { return filter(f.raw()) }

// IsEmpty says whether there is no text.
func (f Foreign) IsEmpty() bool { return f.raw() == "" }

// Len is how many bytes the text has.
func (f Foreign) Len() int { return len(f.raw()) }

// Is says whether the text is s, byte for byte: for the words of a protocol.
func (f Foreign) Is(s string) bool { return f.raw() == s }

// Commit is the text where it is the id of a git commit, "" else. It may be looked up, and shown only once
// the repo has such a commit: a host can write anything in hex digits.
func (f Foreign) Commit() string {
	id := f.raw()
	isID := len(id) == 40 || len(id) == 64
	if !isID || strings.Trim(id, "0123456789abcdef") != "" {
		return ""
	}
	return id
}

func (f Foreign) raw() string {
	if f.text == nil {
		return ""
	}
	return *f.text
}

// Format makes fmt show a mark instead of the text, whatever the verb.
func (f Foreign) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, f.mark()) }

// LogValue makes slog show the mark, in JSON too.
func (f Foreign) LogValue() slog.Value { return slog.StringValue(f.mark()) }

func (f Foreign) mark() string { return fmt.Sprintf("‹%d bytes from the host›", f.Len()) }

// MarshalJSON writes the text as a JSON string: for the wire, never for a person.
func (f Foreign) MarshalJSON() ([]byte, error) { return json.Marshal(f.raw()) }

// UnmarshalJSON reads a JSON string.
func (f *Foreign) UnmarshalJSON(data []byte) error {
	if text, ok := verbatim(data); ok {
		*f = NewForeign(text)
		return nil
	}

	var s string
	if err := json.Unmarshal(data, &s); err != nil {
		return err
	}
	*f = NewForeign(s)
	return nil
}

// verbatim is the text of a JSON string that has nothing to decode: printable ASCII without a
// backslash, as nearly all that a host says. A decoder for each text costs more than all the rest
// of its message.
func verbatim(data []byte) (text string, ok bool) {
	last := len(data) - 1
	if last < 1 || data[0] != '"' || data[last] != '"' {
		return "", false
	}

	for _, c := range data[1:last] {
		isPrintable := c >= ' ' && c <= '~'
		if !isPrintable || c == '"' || c == '\\' {
			return "", false
		}
	}
	return string(data[1:last]), true
}
