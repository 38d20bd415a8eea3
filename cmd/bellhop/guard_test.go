package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"testing/fstest"

	"golang.org/x/sys/unix"

	"bellhop/deploy/commits"
	"bellhop/internal/fleet"
)

// Before anything else a push is looked at: all that refuses it is told by name, also where
// the config itself is broken, and what git has seen is to be rotated.
func TestCheckPush(t *testing.T) {
	key := "-----BEGIN OPENSSH PRIVATE " + "KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW\n-----END OPENSSH PRIVATE " + "KEY-----\n"
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	config := "network: n\nhosts: {}\nverify: { allow: [test/allowed] }\n"
	for name, tt := range map[string]struct {
		tree fstest.MapFS
		want []string
	}{
		"good":          {fstest.MapFS{"bellhop.yaml": file(config)}, nil},
		"plaintext":     {fstest.MapFS{"bellhop.yaml": file(config), "secrets/a": file("hunter2"), "secrets/b.age": file("hunter3")}, []string{"secrets/a", "secrets/b.age"}},
		"broken config": {fstest.MapFS{"bellhop.yaml": file("network: [\n"), "secrets/a": file("hunter2")}, []string{"secrets/a"}},
		"private keys":  {fstest.MapFS{"bellhop.yaml": file(config), "x/key": file(key), "test/allowed": file(key)}, []string{"x/key"}},
	} {
		var got []string
		for _, p := range pushCheck(&fleet.Loader{}, &loadFlags{})(context.Background(), commits.Snapshot{}, commits.Snapshot{Tree: tt.tree}) {
			if p.Warning {
				continue
			}
			got = append(got, p.File)
			if !strings.Contains(p.Message, "rotate") || strings.Contains(p.Message, "hunter") {
				t.Errorf("%s: checkPush says %q, want the word that the value is to be rotated, and not the value", name, p.Message)
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(tt.want) {
			t.Errorf("%s: checkPush refused %v, want %v", name, got, tt.want)
		}
	}
	// A key that the last accepted commit had is no news.
	old := fstest.MapFS{"bellhop.yaml": file(config), "x/key": file(key)}
	tree := fstest.MapFS{"bellhop.yaml": file(config + "\n"), "y/moved": file(key)}
	if got := pushCheck(&fleet.Loader{}, &loadFlags{})(context.Background(), commits.Snapshot{Tree: old}, commits.Snapshot{Tree: tree}); len(got) != 0 {
		t.Errorf("checkPush of an old key = %v, want nothing", got)
	}
}

// Whoever opens secrets for hosts cannot be dumped, from before the first is opened.
func TestUndumpable(t *testing.T) {
	const role = "BELLHOP_TEST_UNDUMPABLE"
	if verb := os.Getenv(role); verb != "" {
		var out bytes.Buffer
		e := &Env{Args: strings.Fields(verb), Stdin: strings.NewReader(""), Stdout: &out, Stderr: &out, Getenv: func(string) string { return "" }}
		e.Run(context.Background()) // fails for want of a repo or of sense, and after that is done
		dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
		var limit unix.Rlimit
		lerr := unix.Getrlimit(unix.RLIMIT_CORE, &limit)
		fmt.Printf("dumpable %d %v, core %d of %d %v\n", dumpable, err, limit.Cur, limit.Max, lerr)
		os.Exit(0)
	}
	state := t.TempDir()
	for _, verb := range []string{"serve --log-level none --state-dir " + state, "deploy --state-dir " + state, "plan --state-dir " + state, "key push --state-dir " + state,
		"key status --state-dir " + state, "secret show x -C " + state, "secret edit x -C " + state, "secret set x -C " + state, "secret rekey -C " + state,
		"secret generate x -C " + state, "secret verify -C " + state, "secret textconv x", "secret list -C " + state, "secret who -C " + state} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestUndumpable$")
		cmd.Env = append(os.Environ(), role+"="+verb)
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "dumpable 0 <nil>, core 0 of 0 <nil>") {
			t.Errorf("bellhop %s: %v: %s", verb, err, out)
		}
	}
}

// A server runs no program that a push could name.
func TestServerRunsNoPlugins(t *testing.T) {
	for _, c := range verbs((&Env{Getenv: func(string) string { return "" }})) {
		if c.Name() == "serve" {
			if f := c.Flags().Lookup("allow-plugin"); f == nil || f.DefValue != "[]" {
				t.Errorf("serve --allow-plugin is %v, want a list that is empty", f)
			}
		}
	}
	dir := t.TempDir()
	path := dir + "/identity"
	if err := os.WriteFile(path, []byte("AGE-PLUGIN-"+"EVIL-1QYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQS\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, allow := range [][]string{nil, {"age-plugin-evil"}, {"./age-plugin-evil"}} {
		f := deployerFlags{stateDir: dir, identities: []string{path}, plugins: allow}
		if _, err := f.openIdentities(&Env{Getenv: func(string) string { return "" }}, f.state()); err == nil {
			t.Errorf("an identity of a plugin was taken with --allow-plugin %q", allow)
		}
	}
}
