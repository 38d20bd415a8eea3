package child

import (
	"context"
	"os/exec"
	"slices"
)

// gitOff turns off what makes git run a program that the repository's own configuration names.
// A repository may be a stranger's: somebody unpacked it, or put it above the folder at hand.
var gitOff = []string{
	"--no-pager",
	"-c", "core.fsmonitor=false",
	"-c", "core.alternateRefsCommand=",
	"-c", "core.pager=cat",
	"-c", "diff.external=",
	"-c", "credential.helper=",
}

// gitVariables do the same where no option exists. A partial clone must not fetch: the remote's
// address can name a program.
var gitVariables = []string{
	"LC_ALL=C", // what it says is looked at
	"GIT_TERMINAL_PROMPT=0",
	"GIT_OPTIONAL_LOCKS=0",
	"GIT_NO_LAZY_FETCH=1",
	"GIT_ALLOW_PROTOCOL=none",
	"GIT_ATTR_NOSYSTEM=1",
}

// Git is git in dir. Whose repository it works in is judged by git itself (safe.directory). Use
// it for commands that read objects, the index or the configuration; one that refreshes the
// index (status, diff, add) would run the filters that .gitattributes names.
func Git(ctx context.Context, dir string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "git", slices.Concat(gitOff, args)...)
	cmd.Dir = dir
	cmd.Env = append(Env(gitOwn), gitVariables...)
	return cmd
}
