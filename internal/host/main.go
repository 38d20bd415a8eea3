package host

import "io"

// Main is the helper's whole command line: serve, apply RUN, settle, version. It returns the
// exit code. open puts the real machine together.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer, open func() (*Machine, error)) int {
	return 0
}
