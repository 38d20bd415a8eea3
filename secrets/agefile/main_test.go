package agefile_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
	"filippo.io/age/plugin"
)

// The test binary is a real age plugin when it is started under the name of one.
func TestMain(m *testing.M) {
	if name, ok := strings.CutPrefix(filepath.Base(os.Args[0]), "age-plugin-"); ok {
		os.Exit(actPlugin(name))
	}
	os.Exit(m.Run())
}

// actPlugin is a plugin that wraps with a key everyone knows. "hang" never answers.
func actPlugin(name string) int {
	if os.Getenv("BELLHOP_TEST_CANARY") != "" {
		fmt.Fprintln(os.Stderr, "the environment leaked")
		return 3
	}
	p, err := plugin.New(name)
	if err != nil {
		return 2
	}
	k, err := age.ParseX25519Identity(knownKey)
	if err != nil {
		return 2
	}
	p.HandleRecipient(func([]byte) (age.Recipient, error) { return k.Recipient(), nil })
	p.HandleIdentity(func([]byte) (age.Identity, error) { return k, nil })
	p.RegisterFlags(flag.CommandLine)
	flag.Parse()
	return p.Main()
}

// knownKey is spelled in two so that nothing takes it for a secret that was committed.
const knownKey = "AGE-SECRET-" + "KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX"
