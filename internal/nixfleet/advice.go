package nixfleet

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"bellhop/internal/nixos"
)

// Advice is what a person does about an error of Read.
func (k Kind) Advice(err error) string {
	var failed *nixos.Failure
	verb := strings.ToLower(k.Name)
	switch {
	case errors.Is(err, nixos.ErrNoNix):
		return fmt.Sprintf("bellhop import evaluates with Nix: run it where %s runs", k.Name)
	case errors.Is(err, ErrNothing):
		return fmt.Sprintf("give the folder, or the file itself: bellhop import %s FILE", verb)
	case !errors.As(err, &failed):
		return "nothing was written"
	case says(failed, "lock file"):
		return "write flake.lock first: nix flake lock"
	case says(failed, "'nixpkgs' was not found"):
		return fmt.Sprintf("say where nixpkgs is: NIX_PATH=nixpkgs=/path/to/nixpkgs bellhop import %s", verb)
	}

	return fmt.Sprintf("mend the file until %s itself evaluates it, and run this again; nothing was written", k.Name)
}

func says(f *nixos.Failure, text string) bool {
	return slices.ContainsFunc(f.Lines, func(line string) bool { return strings.Contains(line, text) })
}

// Log is the end of what Nix said; nil where err is not of Nix.
func Log(err error) []string {
	var failed *nixos.Failure
	if !errors.As(err, &failed) {
		return nil
	}
	return failed.Lines
}
