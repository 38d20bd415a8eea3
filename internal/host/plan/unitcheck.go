package plan

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"bellhop/internal/bundle"
	"bellhop/internal/unitfile"
)

// checkUnitFiles refuses unit files and drop-ins that come or change and hold what the systemd of
// this host ignores: a key that it does not know would be lost without a word. Only what its
// version is known to have counts; a systemd newer than the tables may know more.
func (w *Plan) checkUnitFiles(ctx context.Context) error {
	seen := map[string]bool{}
	for _, u := range w.Offer.Manifest.Units {
		for _, p := range u.Files {
			if u.KeyUnit || seen[p] || !w.Changed[bundle.KindFile+":"+p] {
				continue
			}

			seen[p] = true
			problems := unitfile.Check(kindOf(u.Name, p), unitfile.Parse(w.BytesOf(w.Next.Paths[p].Now.Digest)))
			why, err := w.unknownHere(ctx, p, problems)
			if err != nil {
				return err
			}

			if len(why) == 0 {
				continue
			}
			if err := w.refuse(u.Service, errors.Join(why...)); err != nil {
				return err
			}
		}
	}

	return nil
}

// kindOf is the kind of unit that the file p of the unit name is part of: "service", and of a
// quadlet "container" and its kin.
func kindOf(name, p string) string {
	_, p, isQuadlet := bundle.SplitQuadlet(p)
	if !isQuadlet {
		return strings.TrimPrefix(path.Ext(name), ".")
	}
	if dir := path.Dir(p); dir != "." {
		p = strings.TrimSuffix(dir, ".d") // a drop-in
	}
	return strings.TrimPrefix(path.Ext(p), ".")
}

// unknownHere are those of the problems of a file that are some on this host.
func (w *Plan) unknownHere(ctx context.Context, p string, problems []unitfile.Problem) (bad []error, err error) {
	if !slices.ContainsFunc(problems, func(p unitfile.Problem) bool { return p.Refused || p.Since > 0 }) {
		return nil, nil
	}

	version, err := w.m.Systemd.Version(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask systemd: %w", err)
	}

	for _, pr := range problems {
		known := version <= unitfile.NewestSystemd
		if pr.Refused || known && pr.Since > version {
			bad = append(bad, fmt.Errorf("%s:%d: %s (this host has systemd %d)", p, cmp.Or(pr.Line, 1), pr.Message, version))
		}
	}

	return bad, nil
}
