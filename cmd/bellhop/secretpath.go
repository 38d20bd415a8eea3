package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"unicode"

	"github.com/spf13/pflag"

	"bellhop/internal/privatekey"
	"bellhop/secrets/privatefile"
)

// A secret that was put where a path is wanted: BELLHOP_IDENTITY=AGE-SECRET-KEY-1…, the webhook's
// secret itself in --webhook-secret. It is refused before anything uses it, and no word of it is
// repeated: errors go to logs, to history, and to the screens of others.

// accessToken is what the tokens of git hosts look like.
var accessToken = regexp.MustCompile(`\b(?:gh[opusr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}|gl[a-z]{2,8}-[A-Za-z0-9_-]{20,})`)

// checkFlag looks at the values that a flag got, by the name under which they came. Files of a verb
// that is asked of another machine are not looked for here.
func checkFlag(f *pflag.Flag, isRemote bool, name string, values ...string) error {
	for _, v := range values {
		if kind := secretKind(v); kind != "" {
			return leaked(f, name, kind)
		}
		if f.Annotations[secretFile] == nil || isRemote {
			continue
		}
		if err := checkSecretPath(name, v); err != nil {
			return err
		}
	}
	return nil
}

// secretKind says what secret a value is, for those that tell by their form; "" for all others. A
// token inside of a URL has its place there.
func secretKind(v string) string {
	if kind, _ := privatekey.Find([]byte(v)); kind != "" {
		return "a private key (" + kind + ")"
	}
	if strings.Contains(v, "-----BEGIN ") {
		return "a private key (PEM)"
	}
	if accessToken.MatchString(v) && !strings.Contains(v, "://") {
		return "an access token"
	}
	return ""
}

func leaked(f *pflag.Flag, name, kind string) error {
	err := fmt.Errorf("%s holds %s itself (it is not repeated here)", name, kind)
	const seen = "; whoever saw this command line or environment has seen it: replace it"
	switch {
	case f.Annotations[secretFile] != nil:
		return hint(err, "write it into a file that only you can read (chmod 600), and name the file: --%s FILE, or %s_FILE=FILE%s", f.Name, envName(f.Name), seen)
	case kind == "an access token" && f.Name == "repo":
		return hint(err, "--repo https://… is the repo; its token goes into BELLHOP_REPO_TOKEN, or the file BELLHOP_REPO_TOKEN_FILE%s", seen)
	}
	return hint(err, "--%s takes: %s%s", f.Name, f.Usage, seen)
}

// checkSecretPath refuses a value that names no file. Whether the path is repeated depends on whether
// it can be one: the value may be the secret.
func checkSecretPath(name, path string) error {
	if privatefile.IsInherited(path) {
		return nil
	}
	if kind := secretKind(path); kind != "" {
		return hint(fmt.Errorf("%s holds %s itself (it is not repeated here)", name, kind), "write it into a file that only you can read (chmod 600), and name the file: %s=FILE", name)
	}

	_, err := os.Stat(path)
	if err == nil || errors.Is(err, fs.ErrPermission) {
		return nil // whoever reads it says what is wrong with it
	}

	if isPlainPath(path) {
		return hint(fmt.Errorf("%s names a file that is not there: %s", name, path), "only bellhop serve makes keys by itself, and only the default ones in its state directory")
	}

	return hint(fmt.Errorf("%s names no file that is there (the value is not repeated here: it may be the secret itself)", name),
		"it takes the path of a file that only you can read, as in %s=/path/of/file", name)
}

// isPlainPath says whether a path can be shown: it begins like one, its folder is there, and its name
// is not as random as a key is.
func isPlainPath(path string) bool {
	beginsLikeOne := strings.HasPrefix(path, "/") || strings.HasPrefix(path, "./") || strings.HasPrefix(path, "../")
	info, err := os.Stat(filepath.Dir(path))
	if !beginsLikeOne || err != nil || !info.IsDir() {
		return false
	}
	return !looksRandom(filepath.Base(path))
}

// looksRandom says whether a name may be a secret: long, and of letters of both cases and digits, or
// of hexadecimal digits alone.
func looksRandom(name string) bool {
	if len(name) < 16 {
		return false
	}
	var hasUpper, hasLower, hasDigit bool
	for _, r := range name {
		hasUpper = hasUpper || unicode.IsUpper(r)
		hasLower = hasLower || unicode.IsLower(r)
		hasDigit = hasDigit || unicode.IsDigit(r)
	}

	isHex := strings.Trim(strings.ToLower(name), "0123456789abcdef") == ""
	isMixed := hasUpper && hasLower && hasDigit
	return isHex || isMixed
}

// typedValues are the values of a flag that was typed.
func typedValues(f *pflag.Flag) []string {
	if list, ok := f.Value.(pflag.SliceValue); ok {
		return list.GetSlice()
	}
	return []string{f.Value.String()}
}

// envValues are the values in a variable: of a flag that may come again, several may stand in it,
// separated by commas.
func envValues(f *pflag.Flag, v string) []string {
	if f.Value.Type() == "stringSlice" && secretKind(v) == "" {
		return strings.Split(v, ",")
	}
	return []string{v}
}

// checkArgs refuses a private key or a token among the arguments of a verb.
func checkArgs(args []string) error {
	for i, arg := range args {
		if kind := secretKind(arg); kind != "" {
			return hint(fmt.Errorf("argument %d is %s itself (it is not repeated here)", i+1, kind),
				"a secret's value comes from stdin or a file, never from the command line; whoever saw this one has seen it: replace it")
		}
	}
	return nil
}
