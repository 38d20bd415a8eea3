package precommit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"bellhop/internal/durable"
)

// hookMark is how we know our own hook again.
const hookMark = "# bellhop: look through what is staged"

// hookText fails closed: a hook that is skipped in silence protects nobody.
const hookText = `#!/bin/sh
` + hookMark + ` before it is in git's history for good.
# To commit without the check: git commit --no-verify
command -v bellhop >/dev/null 2>&1 || {
	echo "pre-commit: bellhop is not on PATH, so secrets were not checked (git commit --no-verify skips this)" >&2
	exit 1
}
%sbellhop secret verify --staged || exit 1
[ ! -e bellhop.yaml ] || exec bellhop check
`

// hookLine is what another's hook calls.
const hookLine = "bellhop secret verify --staged"

// hookFolder goes to the folder that holds bellhop.yaml. git may name its index from the top, and
// where it names its own folder it takes whatever folder we are in for the top.
const hookFolder = `case $GIT_INDEX_FILE in
"" | /*) ;;
*) export GIT_INDEX_FILE="$PWD/$GIT_INDEX_FILE" ;;
esac
case $GIT_DIR in
"") ;;
/*) export GIT_WORK_TREE="$PWD" ;;
*) export GIT_WORK_TREE="$PWD" GIT_DIR="$PWD/$GIT_DIR" ;;
esac
cd %s || exit 1
`

// hook is the hook for a config in a folder of its repo; "" is the top.
func hook(folder string) []byte {
	cd := ""
	if folder != "" {
		cd = fmt.Sprintf(hookFolder, "'"+strings.ReplaceAll(folder, "'", `'\''`)+"'")
	}
	return fmt.Appendf(nil, hookText, cd)
}

// Why a hook is not installed.
var (
	ErrOtherHook   = errors.New("another pre-commit hook is there")
	ErrSharedHooks = errors.New("git's hooks of all your repositories are in one folder (core.hooksPath), and this one would run in each of them")
	ErrBareRepo    = errors.New("this is a bare repository: commits are made, and looked through, in its clones")
)

// A Hook is the pre-commit hook of a git repository.
type Hook struct {
	Path  string // where it is, or where it belongs
	Fresh bool   // it was written just now; false: it was there, and calls bellhop
}

// Install puts a pre-commit hook into the git repo that dir is in. A hook of ours is brought up
// to date; one that already calls us stays; any other is ErrHookStands. Hooks that git takes from one
// folder for all repositories of the person are ErrSharedHooks: see OwnHooks.
func Install(dir string) (Hook, error) {
	hooks, err := hooksDir(dir)
	if err != nil {
		return Hook{}, fmt.Errorf("install the hook: %w", err)
	}

	h := Hook{Path: filepath.Join(hooks, "pre-commit")}
	isThere, isOurs := false, false
	switch text, err := os.ReadFile(h.Path); {
	case err == nil:
		isThere, isOurs = true, strings.Contains(string(text), hookMark)
		if !isOurs && strings.Contains(string(text), hookLine) {
			return h, nil
		}
	case !errors.Is(err, fs.ErrNotExist):
		return h, fmt.Errorf("install the hook: %w", err)
	}

	if shared, err := sharedHooks(dir); err != nil || shared {
		return h, errors.Join(err, sharedError(shared))
	}
	if isThere && !isOurs {
		return h, ErrOtherHook
	}

	prefix, err := git(dir, "rev-parse", "--show-prefix")
	if err != nil {
		return h, fmt.Errorf("install the hook: %w", err)
	}

	text := hook(strings.TrimSuffix(string(prefix), "\n"))
	if err := writeHook(h.Path, text); err != nil {
		return h, fmt.Errorf("install the hook: %w", err)
	}

	h.Fresh = true
	return h, nil
}

func sharedError(shared bool) error {
	if shared {
		return ErrSharedHooks
	}
	return nil
}

func writeHook(path string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return errors.Join(durable.Write(path, text, 0o755), os.Chmod(path, 0o755))
}

// hooksDir is the folder that git takes hooks from.
func hooksDir(dir string) (string, error) {
	inside, err := git(dir, "rev-parse", "--is-inside-work-tree")
	if err != nil {
		return "", err
	}
	if strings.TrimSpace(string(inside)) != "true" {
		return "", ErrBareRepo
	}

	out, err := git(dir, "rev-parse", "--git-path", "hooks")
	if err != nil {
		return "", err
	}

	hooks := strings.TrimSuffix(string(out), "\n")
	if !filepath.IsAbs(hooks) {
		hooks = filepath.Join(dir, hooks)
	}

	return hooks, nil
}

// sharedHooks says whether core.hooksPath is set for more than this repository: by the person's or
// the system's configuration, or by a variable.
func sharedHooks(dir string) (bool, error) {
	out, err := git(dir, "config", "--show-scope", "--get", "core.hooksPath")
	if err != nil {
		return false, nil // it is not set
	}
	scope, _, _ := strings.Cut(string(out), "\t")
	return scope != "local" && scope != "worktree", nil
}

// OwnHooks makes git take the hooks of dir's repository from its own folder, and returns that. The
// path is absolute: git takes a relative one from the top of each linked work tree, where there is none.
func OwnHooks(dir string) (string, error) {
	out, err := git(dir, "rev-parse", "--git-common-dir")
	if err != nil {
		return "", err
	}

	common := strings.TrimSuffix(string(out), "\n")
	if !filepath.IsAbs(common) {
		common = filepath.Join(dir, common)
	}

	hooks, err := filepath.Abs(filepath.Join(common, "hooks"))
	if err != nil {
		return "", err
	}
	_, err = git(dir, "config", "--local", "core.hooksPath", hooks)
	return hooks, err
}
