package secrets_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bellhop/secrets"
	"filippo.io/age"
	"filippo.io/age/plugin"
)

// The test binary stands in for other programs when it is started under their name or with a
// role: a real age plugin, and a bellhop that edits.
func TestMain(m *testing.M) {
	if name, ok := strings.CutPrefix(filepath.Base(os.Args[0]), "age-plugin-"); ok {
		os.Exit(actPlugin(name))
	}
	if os.Getenv("BELLHOP_TEST_ROLE") == "edit" {
		os.Exit(actEdit())
	}
	if os.Getenv("BELLHOP_TEST_ROLE") == "undumpable" {
		os.Exit(actUndumpable())
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

// actEdit edits secrets/x in the folder given, panicking in the editor's stead if told to.
func actEdit() int {
	pub := os.Getenv("BELLHOP_TEST_READER")
	s := &secrets.Store{Dir: os.Getenv("BELLHOP_TEST_DIR"), Rules: secrets.Rules{Names: map[string][]string{"a": {pub}}}}
	_, err := s.Edit("x", secrets.Editor{Command: os.Getenv("BELLHOP_TEST_EDITOR"), Stdout: os.Stdout})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func actUndumpable() int {
	if err := secrets.Undumpable(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	limits, err := os.ReadFile("/proc/self/limits")
	if err != nil {
		// Undumpable processes without privileges may not even read their own: as good a proof.
		return 0
	}
	for line := range strings.SplitSeq(string(limits), "\n") {
		if strings.HasPrefix(line, "Max core file size") {
			fmt.Println(strings.Join(strings.Fields(line), " "))
		}
	}
	return 0
}
