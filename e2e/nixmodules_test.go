//go:build e2e

package e2e

import (
	"path/filepath"
	"strings"
	"testing"
)

// The flake's modules, its keys and the example repo are evaluated by go test where Nix is, which is Debian 12's 2.8. A Debian 13
// host has 2.26: the same tests are built here and run there.
func TestNixModulesOnDebian13(t *testing.T) {
	t.Setenv("BELLHOP_RIG_SUITE", "trixie")
	oneHost(t)

	const withNix = "TestNixExampleEvaluates|TestFlakesOfDocs|TestFlakeIsUsedByAnother|TestNixServiceIsThatOfContrib|TestSwitchLeavesWorkersAlone|TestNixKeyUnits|TestNixKeysThatAreRefused"
	dir := filepath.Join(rigDir(), "host1/root/root/repo")
	if out, err := sh("..", "mkdir -p "+dir+" && git archive HEAD | tar -C "+dir+" -x && CGO_ENABLED=0 go test -c -o "+dir+"/root.test ."); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	on(t, "host1", "cd /root/repo && git init -q . && git add -A && git -c user.name=cadey -c user.email=cadey@example.com commit -qm repo")
	out := on(t, "host1", "nix --version; cd /root/repo && ./root.test -test.v -test.run '^("+withNix+")$' 2>&1; echo ended $?; rm -rf /root/repo")
	for _, want := range append(strings.Split("--- PASS: "+strings.ReplaceAll(withNix, "|", "|--- PASS: "), "|"), "nix (Nix) 2.2", "ended 0") {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
}
