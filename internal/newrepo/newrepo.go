// Package newrepo has the first files of a config repo, as bellhop init and bellhop import write them.
package newrepo

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// A Fleet is what a new bellhop.yaml says.
type Fleet struct {
	Network  string
	Readers  []string // NAME=KEY, who can open the secrets
	Deployer string   // the deployer's SSH public key; "" where it is not known
	Hosts    string   // the lines of hosts:; "" for none
}

// Text is the file.
func (f Fleet) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# The fleet. bellhop check reads this; bellhop schema describes it to an editor.\nnetwork: %s\n\n", f.Network)
	b.WriteString("readers:                  # who can open the files below secrets/\n")
	for _, r := range f.Readers {
		name, key, _ := strings.Cut(r, "=")
		fmt.Fprintf(&b, "  %s: %s\n", name, key)
	}

	if !strings.Contains(b.String(), "\n  deployer: ") {
		b.WriteString("  # deployer: age1…       # as bellhop serve printed it\n")
	}

	if f.Deployer != "" {
		fmt.Fprintf(&b, "\ndeployer: %s\n", f.Deployer)
	} else {
		b.WriteString("\n# deployer: ssh-ed25519 AAAA…   # as bellhop serve printed it; bellhop host add puts it on hosts\n")
	}

	if f.Hosts != "" {
		return b.String() + "\n" + f.Hosts
	}
	b.WriteString("\n# all:                    # what every host gets\n#   services: { hello: true }\n\nhosts: {}                 # bellhop host add NAME root@ADDRESS\n")
	return b.String()
}

var notName = regexp.MustCompile(`[^a-z0-9-]+`)

// Word makes a name of s: small letters, digits and dashes; "" where nothing is left.
func Word(s string) string {
	return strings.Trim(notName.ReplaceAllString(strings.ToLower(s), "-"), "-")
}

// NetworkName is what a network in a folder is called.
func NetworkName(dir string) string {
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	if name := Word(filepath.Base(dir)); name != "" {
		return name
	}
	return "home"
}

// Gitignore keeps plaintext out of secrets/.
const Gitignore = `# Below secrets/ only sealed files, public keys and explanations may be committed.
/secrets/**
!/secrets/**/
!/secrets/**/*.age
!/secrets/**/*.pub
!/secrets/**/README*
`

// Gitattributes has git show sealed files opened.
const Gitattributes = `# Sealed files are bytes; git diff shows them opened, to those who can (bellhop hook install).
*.age -text diff=bellhop
`

// Write writes a file that is not there yet; fresh says whether it did.
func Write(path, content string, mode fs.FileMode) (fresh bool, err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if _, err := f.WriteString(content); err != nil {
		f.Close()
		return false, err
	}

	return true, f.Close()
}
