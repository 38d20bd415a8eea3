package keys

import (
	"bytes"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"bellhop/internal/bundle"
	"bellhop/internal/durable"
)

// Seal leaves a copy of value that only this host can open, at SealedDir/name, and opens it
// once: a host whose secret was lost makes a new one without a word.
func (k *Mounts) Seal(ctx context.Context, name string, value []byte) error {
	if err := seal(ctx, bundle.SealedDir, name, value); err != nil {
		return fmt.Errorf("seal key %s: %w", name, err)
	}
	return nil
}

func seal(ctx context.Context, dir, name string, value []byte) error {
	if err := checkName(name); err != nil {
		return err
	}
	if len(value) > bundle.MaxKey {
		return fmt.Errorf("%d bytes are more than the cap of %d", len(value), bundle.MaxKey)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}

	sealed, err := creds(ctx, value, "encrypt", "--with-key=host", "--name="+name, "-", "-")
	if err != nil {
		return err
	}

	w := durable.Writer{Beside: ".new." + name}
	return w.WriteProven(filepath.Join(dir, name), sealed, 0o600, func(temp string) error {
		if !opens(ctx, temp, name, value) {
			return errors.New("the copy does not open")
		}
		return nil
	})
}

// Opens says whether the copy of name opens and equals value.
func (k *Mounts) Opens(ctx context.Context, name string, value []byte) bool {
	return checkName(name) == nil && opens(ctx, filepath.Join(bundle.SealedDir, name), name, value)
}

func opens(ctx context.Context, path, name string, value []byte) bool {
	if fi, err := os.Lstat(path); err != nil || !fi.Mode().IsRegular() {
		return false
	}
	got, err := creds(ctx, nil, "decrypt", "--name="+name, path, "-")
	defer clear(got)
	return err == nil && subtle.ConstantTimeCompare(got, value) == 1
}

// checkName: the name is bound into the copy, and is a file's.
func checkName(name string) error {
	sized := name != "" && len(name) <= 200
	if !sized || strings.HasPrefix(name, ".") || strings.ContainsAny(name, "/\x00") {
		return fmt.Errorf("key name %q can't name a sealed copy", name)
	}
	return nil
}

// creds runs systemd-creds. Its output may be plaintext, so it is never part of an error; what
// it says on stderr is about files and keys, never values.
func creds(ctx context.Context, stdin []byte, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "systemd-creds", args...)
	var out, errs bytes.Buffer
	out.Grow(len(stdin) + 64<<10) // so that growing leaves no second copy of what is short
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &out, &errs
	if err := cmd.Run(); err != nil {
		clear(out.Bytes())
		return nil, fmt.Errorf("systemd-creds %s: %w: %s", args[0], err, strings.TrimSpace(errs.String()))
	}

	return out.Bytes(), nil
}
