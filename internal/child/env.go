// Package child starts programs of the person's system: git, ssh, an editor, an age plugin.
//
// Its promise: such a program is given the variables that it needs, by name, and never one that
// may hold a secret of bellhop. git runs no program that the repository at hand names.
package child

import (
	"os"
	"slices"
	"strings"
)

// common is what each program gets: where things are, how to talk to the person.
var common = []string{
	"PATH", "HOME", "USER", "LOGNAME", "SHELL", "PWD", "TMPDIR",
	"LANG", "LANGUAGE", "LC_*", "TZ", "LOCALE_ARCHIVE",
	"TERM", "TERM_PROGRAM", "TERMINFO", "TERMINFO_DIRS", "COLORTERM", "NO_COLOR", "COLUMNS", "LINES",
	"http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY",
	"XDG_*", "DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY", "DBUS_SESSION_BUS_ADDRESS",
	"NIX_*", "SSL_CERT_FILE", "SSL_CERT_DIR",
}

// Names that a kind of program gets beside the common ones. A name that ends in * is a prefix.
var (
	// Editor is for $EDITOR.
	Editor = []string{
		"EDITOR", "VISUAL", "ALTERNATE_EDITOR", "EMACS*", "VIM", "VIMRUNTIME", "VIMINIT", "MYVIMRC", "EXINIT", "NVIM*",
		"VSCODE_*", "TMUX", "STY", "WINDOWID", "KITTY_*", "SSH_TTY", "SSH_CONNECTION",
	}

	// SSH is for ssh.
	SSH = []string{"SSH_AUTH_SOCK", "SSH_ASKPASS", "SSH_ASKPASS_REQUIRE", "SSH_TTY", "SSH_CONNECTION", "GPG_TTY"}

	// Plugin is for age plugins: enough to reach a token, a pinentry and a terminal.
	Plugin = []string{"GPG_TTY", "GNUPGHOME", "SSH_AUTH_SOCK", "AGE_*"}

	// gitOwn tells git where a repository is and what its user configured. Left out are those that
	// name a program to run, that trace, or that speak to a remote.
	gitOwn = []string{
		"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_PREFIX", "GIT_NAMESPACE",
		"GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_QUARANTINE_PATH",
		"GIT_CEILING_DIRECTORIES", "GIT_DISCOVERY_ACROSS_FILESYSTEM", "GIT_EXEC_PATH",
		"GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM",
		"GIT_CONFIG_COUNT", "GIT_CONFIG_KEY_*", "GIT_CONFIG_VALUE_*", "GIT_CONFIG_PARAMETERS",
		"SUDO_UID", // by which git knows whose repository root may work in
	}
)

// Env is the environment of a child: of this process's variables those that every program may
// see, and those of own.
func Env(own []string) []string {
	allowed := slices.Concat(common, own)
	env := []string{} // not nil: exec takes nil for all variables
	for _, pair := range os.Environ() {
		name, _, _ := strings.Cut(pair, "=")
		if isAllowed(name, allowed) {
			env = append(env, pair)
		}
	}

	return env
}

func isAllowed(name string, allowed []string) bool {
	if strings.HasPrefix(name, "BELLHOP_") {
		return false
	}

	return slices.ContainsFunc(allowed, func(pattern string) bool {
		if prefix, isPrefix := strings.CutSuffix(pattern, "*"); isPrefix {
			return strings.HasPrefix(name, prefix)
		}

		return name == pattern
	})
}
