package main

import (
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"testing"
)

// mostMade is what all packages of bellhop may allocate before main, bytes. Tables take 60 KiB; a regular
// expression that counts to 255 takes half a megabyte, and a push starts this program twice on each host.
const mostMade = 160 << 10

var initLine = regexp.MustCompile(`(?m)^init (bellhop/\S+) .* (\d+) bytes, \d+ allocs$`)

func TestLittleIsMadeBeforeMain(t *testing.T) {
	start := exec.Command(os.Args[0], "-test.run=^$")
	start.Env = append(os.Environ(), "GODEBUG=inittrace=1")
	out, err := start.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}

	made, seen := 0, initLine.FindAllSubmatch(out, -1)
	for _, m := range seen {
		n, _ := strconv.Atoi(string(m[2]))
		made += n
		t.Logf("%s: %d bytes", m[1], n)
	}
	if len(seen) == 0 {
		t.Fatalf("no package of bellhop tells of its start:\n%s", out)
	}
	if made > mostMade {
		t.Errorf("%d bytes are allocated before main, want at most %d", made, mostMade)
	}
}
