package plain_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"bellhop/internal/plain"
)

func TestQuoteIsShownThroughTheFilter(t *testing.T) {
	q := &plain.Quote{What: "the login shell ended with status 1", Said: plain.NewForeign("hunter2-hunter2"), Cause: errors.ErrUnsupported}
	other := &plain.Quote{Said: plain.NewForeign("second text")}
	err := fmt.Errorf("web1: %w (and %w)", errors.Join(q), other)

	if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "second") {
		t.Errorf("the error shows the quote: %v", err)
	}
	if !errors.Is(err, errors.ErrUnsupported) || !plain.HasQuote(err) {
		t.Errorf("the cause is lost in %v", err)
	}

	got := plain.Reveal(err, func(s string) string { return strings.ReplaceAll(s, "hunter2", "‹key›") })
	if want := "web1: the login shell ended with status 1: ‹key›-‹key› (and second text)"; got != want {
		t.Errorf("Reveal = %q, want %q", got, want)
	}
}
