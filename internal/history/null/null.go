// Package null has what does not exist as JSON shows it: as null.
package null

import (
	"time"

	"bellhop/internal/history/store"
)

// Text is a pointer to s; nil where s is "".
func Text[T ~string](s T) *T {
	if s == "" {
		return nil
	}
	return &s
}

// Time is t in UTC, in whole milliseconds as the file has it; nil for the zero time.
func Time(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = store.Time(store.Millis(t))
	return &t
}
