package archive_test

import (
	"fmt"

	"bellhop/internal/archive"
)

// The first bytes of a file say whether it is an archive.
func ExampleSniff() {
	for _, head := range []string{"\x1f\x8b\x08", "PK\x03\x04", "7z\xbc\xaf\x27\x1c", "#!/bin/sh\n"} {
		fmt.Printf("%q\n", archive.Sniff([]byte(head)))
	}
	// Output:
	// "gz"
	// "zip"
	// "7z"
	// ""
}
