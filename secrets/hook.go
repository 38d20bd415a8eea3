package secrets

import (
	"errors"
	"fmt"
	"io"
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
%sexec bellhop secret verify --staged
`

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

// ErrHookStands says that another pre-commit hook is there. It is left alone.
var ErrHookStands = errors.New("another pre-commit hook stands there; add to it: bellhop secret verify --staged || exit 1")

// InstallHook puts a pre-commit hook into the git repo that dir is in, and returns its path. A hook
// of ours is brought up to date; one that already calls us stays; any other is ErrHookStands.
func InstallHook(dir string) (string, error) {
	out, err := git(dir, "rev-parse", "--git-path", "hooks")
	if err != nil {
		return "", fmt.Errorf("install the hook: %w", err)
	}
	prefix, err := git(dir, "rev-parse", "--show-prefix")
	if err != nil {
		return "", fmt.Errorf("install the hook: %w", err)
	}
	hooks := strings.TrimSuffix(string(out), "\n")
	if !filepath.IsAbs(hooks) {
		hooks = filepath.Join(dir, hooks)
	}
	file := filepath.Join(hooks, "pre-commit")
	switch stands, err := os.ReadFile(file); {
	case err == nil && strings.Contains(string(stands), hookMark):
	case err == nil && strings.Contains(string(stands), "bellhop secret verify --staged"):
		return file, nil
	case err == nil:
		return file, fmt.Errorf("install %s: %w", file, ErrHookStands)
	case !errors.Is(err, fs.ErrNotExist):
		return file, fmt.Errorf("install the hook: %w", err)
	}
	if err := os.MkdirAll(hooks, 0o755); err != nil {
		return file, fmt.Errorf("install the hook: %w", err)
	}
	text := hook(strings.TrimSuffix(string(prefix), "\n"))
	if err := errors.Join(durable.Write(file, text, 0o755), os.Chmod(file, 0o755)); err != nil {
		return file, fmt.Errorf("install the hook: %w", err)
	}
	return file, nil
}

func eofIf(end bool) error {
	if end {
		return io.EOF
	}
	return nil
}
