package nixos

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
)

// Value evaluates an expression that may read all that this user may, as nix-build does, and decodes its JSON into
// v. said is called with each message of Nix, in order. A *Failure has the last lines of the log.
func (n *Nix) Value(ctx context.Context, expr string, v any, said func(text string)) error {
	if _, err := program("nix"); err != nil {
		return ErrNoNix
	}

	var out bytes.Buffer
	var errs tail
	args := []string{"--extra-experimental-features", "nix-command flakes", "--log-format", "internal-json", "eval", "--json", "--impure",
		"--option", "accept-flake-config", "false", "--expr", expr}
	failed := n.run(ctx, "nix", args, nil, &out, func(l logLine) {
		if l.Action != "msg" {
			return
		}
		errs.add(l.text())
		said(l.text())
	})
	if failed != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if failed != nil {
		return &Failure{Text: firstNonEmpty(headline(errs.lines), failed.Error()), Lines: errs.lines}
	}

	if err := json.Unmarshal(out.Bytes(), v); err != nil {
		return fmt.Errorf("read what Nix printed: %w", err)
	}

	return nil
}

// Quote writes s as a string of the Nix language.
func Quote(s string) string { return quote(s) }
