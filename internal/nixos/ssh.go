package nixos

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
)

// socketVariable names the socket to which the ssh of a copy connects.
const socketVariable = "BELLHOP_NIX_SOCKET"

// asks says that this program asks IsSSH. One that does not would do all of its own work where Nix wants an ssh.
var asks atomic.Bool

// IsSSH says that this process was started by Nix as its ssh: main and TestMain ask it first.
func IsSSH() bool {
	asks.Store(true)
	return filepath.Base(os.Args[0]) == "ssh" && os.Getenv(socketVariable) != ""
}

// SSH is the ssh that Nix starts; it returns the exit code.
//
// Since Nix 2.20 the line "started" is waited for, which OpenSSH's LocalCommand would print, and a master connection is
// asked for with -O check, which there is none of.
func SSH(args []string, in io.Reader, out io.Writer) int {
	if slices.Contains(args, "-O") {
		return 255
	}
	c, err := net.Dial("unix", os.Getenv(socketVariable))
	if err != nil {
		fmt.Fprintln(os.Stderr, "bellhop as ssh of Nix:", err)
		return 255
	}
	defer c.Close()
	if slices.Contains(args, "-oLocalCommand=echo started") {
		fmt.Fprintln(out, "started")
	}

	go func() {
		_, _ = io.Copy(c, in)
		_ = c.(*net.UnixConn).CloseWrite()
	}()
	if _, err := io.Copy(out, c); err != nil {
		return 255
	}

	return 0
}
