package secrets_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"bellhop/secrets"
	"bellhop/secrets/edit"
)

// The test binary is another program when it is started with a role: a bellhop that edits, or one that
// made itself undumpable.
func TestMain(m *testing.M) {
	if os.Getenv("BELLHOP_TEST_ROLE") == "edit" {
		os.Exit(actEdit())
	}
	if os.Getenv("BELLHOP_TEST_ROLE") == "undumpable" {
		os.Exit(actUndumpable())
	}
	os.Exit(m.Run())
}

// actEdit edits secrets/x in the folder given, panicking in the editor's stead if told to.
func actEdit() int {
	pub := os.Getenv("BELLHOP_TEST_READER")
	s := &secrets.Store{Dir: os.Getenv("BELLHOP_TEST_DIR"), Rules: secrets.Rules{Names: map[string][]string{"a": {pub}}}}
	_, err := s.Edit("x", edit.Editor{Command: os.Getenv("BELLHOP_TEST_EDITOR"), Stdout: os.Stdout})
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
