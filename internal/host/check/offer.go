package check

import (
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"bellhop/internal/archive"
	"bellhop/internal/bundle"
	"bellhop/internal/nameshape"
)

var (
	// RunName is the shape of the id of a run.
	RunName     = nameshape.Of("a-z0-9-", 40)
	packageName = nameshape.New("A-Za-z0-9", "A-Za-z0-9._-", 64)
)

const (
	minNonce   = 16   // bytes
	maxKeyName = 4096 // bytes
)

// Offer says what is wrong with an offer as such, whatever the host holds.
func Offer(o *bundle.Offer) error {
	if !RunName.MatchString(o.Run) {
		return fmt.Errorf("run id %q", o.Run)
	}
	if o.After != "" && !RunName.MatchString(o.After) {
		return fmt.Errorf("id of the run before %q", o.After)
	}
	if o.Mode != bundle.ModeDeploy && o.Mode != bundle.ModeKeys {
		return fmt.Errorf("mode %q", o.Mode)
	}
	hasKeys := len(o.Manifest.Keys) > 0 || o.Mode == bundle.ModeKeys
	if short := len(o.Nonce) < minNonce; short && (hasKeys || len(o.Nonce) > 0) {
		return fmt.Errorf("a nonce of %d bytes", len(o.Nonce))
	}
	if o.Last != nil {
		if err := Manifest(o.Last); err != nil {
			return fmt.Errorf("last: %w", err)
		}
	}

	return Manifest(&o.Manifest)
}

// Manifest says what is wrong with a manifest as such.
func Manifest(b *bundle.Manifest) error {
	seen := map[string]bool{}
	once := func(kind, name string) error {
		if seen[kind+name] {
			return fmt.Errorf("%s %s comes twice", kind, name)
		}

		seen[kind+name] = true
		return nil
	}

	for _, f := range b.Files {
		if err := firstError(filePath(f.Path), once("path ", f.Path), Digest(f.Digest),
			checkOwner(f.User, f.Group), checkMode(f.Mode)); err != nil {
			return fmt.Errorf("file %q: %w", f.Path, err)
		}
	}

	for _, l := range b.Links {
		if err := firstError(filePath(l.Path), once("path ", l.Path), checkTarget(l.Target)); err != nil {
			return fmt.Errorf("link %q: %w", l.Path, err)
		}
	}

	for _, k := range b.Keys {
		if err := firstError(checkKey(k), once("key ", k.Name), once("path ", k.Path)); err != nil {
			return fmt.Errorf("key %q: %w", k.Name, err)
		}
	}

	for _, p := range b.Packages {
		if err := firstError(checkPackage(p), once("package ", p.Name)); err != nil {
			return fmt.Errorf("package %q: %w", p.Name, err)
		}
	}

	for _, u := range b.Users {
		if !bundle.AccountName.MatchString(u.Name) || !bundle.AccountName.MatchString(u.Group) || !strings.HasPrefix(u.Home, "/") {
			return fmt.Errorf("user %q of group %q with home %q", u.Name, u.Group, u.Home)
		}
	}

	for _, g := range b.Groups {
		if !bundle.AccountName.MatchString(g) {
			return fmt.Errorf("group %q", g)
		}
	}

	for _, u := range b.Units {
		if err := firstError(checkUnit(u), once("unit ", u.Name)); err != nil {
			return err
		}
	}

	for _, s := range b.Services {
		if err := firstError(checkService(s), once("service ", s.Name)); err != nil {
			return fmt.Errorf("service %q: %w", s.Name, err)
		}
	}

	if b.System != nil {
		if err := bad(b.System.Bad()); err != nil {
			return fmt.Errorf("system: %w", err)
		}
	}
	if isKey := func(k bundle.Key) bool { return k.Path == b.Logins }; b.Logins != "" && !slices.ContainsFunc(b.Keys, isKey) {
		return fmt.Errorf("logins at %q, where no key is", b.Logins)
	}
	return nil
}

func checkUnit(u bundle.Unit) error {
	if !bundle.IsUnitName(u.Name) || !strings.Contains(u.Name, ".") {
		return fmt.Errorf("unit name %q", u.Name)
	}
	isOwn := u.Name == bundle.ApplyUnit || u.Name == bundle.SettleUnit
	if isOwn || strings.HasPrefix(u.Name, bundle.BeforeUnits) || strings.HasPrefix(u.Name, bundle.ProbeUnits) {
		return fmt.Errorf("unit %s is bellhop's own", u.Name)
	}

	for _, does := range append(slices.Collect(maps.Values(u.On)), u.OnChange) {
		switch does {
		case bundle.Restart, bundle.Reload, bundle.None, "":
		default:
			return fmt.Errorf("unit %s: on_change %q", u.Name, does)
		}
	}

	return nil
}

func checkKey(k bundle.Key) error {
	if !strings.HasPrefix(k.Path, bundle.KeyDir+"/") || strings.HasPrefix(k.Path, bundle.KeyDir+"/.") {
		return fmt.Errorf("path %q is not below %s", k.Path, bundle.KeyDir)
	}
	if k.Name == "" || len(k.Name) > maxKeyName {
		return fmt.Errorf("bad name")
	}
	if k.Seal && !packageName.MatchString(k.Name) { // the name of a file
		return fmt.Errorf("bad name")
	}
	return firstError(CleanPath(k.Path), checkOwner(k.User, k.Group), checkMode(k.Mode))
}

func checkPackage(p bundle.Package) error {
	if !packageName.MatchString(p.Name) || p.Strip < 0 || p.Strip > 100 {
		return fmt.Errorf("bad name or strip")
	}

	switch {
	case !slices.Contains(archive.Kinds, p.Kind):
		return fmt.Errorf("kind %q", p.Kind)
	case archive.IsSingle(p.Kind) && !packageName.MatchString(p.File):
		return fmt.Errorf("file name %q", p.File)
	case p.As != "" && !packageName.MatchString(p.As):
		return fmt.Errorf("file name %q", p.As)
	}

	return Digest(p.Digest)
}

// filePath accepts where a file or a link of a bundle may stand: nowhere that bellhop keeps
// its own things, and never where a key belongs.
func filePath(p string) error {
	for _, dir := range []string{bundle.StateDir, bundle.KeyDir, bundle.PackageDir, "/proc", "/sys", "/dev"} {
		if p == dir || strings.HasPrefix(p, dir+"/") {
			return fmt.Errorf("%s is not for files", dir)
		}
	}

	if p == bundle.UnitDir+"/"+bundle.KeyMountUnit || p == bundle.UnitDir+"/"+bundle.SettleUnit {
		return fmt.Errorf("it is bellhop's own")
	}
	return CleanPath(p)
}

// CleanPath says what is wrong with p as an absolute path.
func CleanPath(p string) error { return bad(bundle.BadPath(p)) }

func checkTarget(target string) error { return bad(bundle.BadTarget(target)) }

// bad is an error of what is wrong, nil for "".
func bad(what string) error {
	if what == "" {
		return nil
	}
	return errors.New(what)
}

func checkOwner(user, group string) error {
	if !bundle.AccountName.MatchString(user) || !bundle.AccountName.MatchString(group) {
		return fmt.Errorf("owner %q of group %q", user, group)
	}
	return nil
}

func checkMode(mode uint32) error {
	if mode > 0o7777 {
		return fmt.Errorf("mode %o", mode)
	}
	return nil
}

// Digest says what is wrong with d as a SHA-256 in lower-case hexadecimal.
func Digest(d string) error {
	if p, err := hex.DecodeString(d); err != nil || len(p) != 32 || strings.ToLower(d) != d {
		return fmt.Errorf("digest %q", d)
	}
	return nil
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
