package host

import (
	"os"
	"time"
)

func init() {
	settleTime = 2 * time.Millisecond // nothing of a test's box dies later
	restTime = 10 * time.Millisecond
	fsync = func(*os.File) error { return nil }
	syncfs = func(int) error { return nil }
}

// Locked is what install says of an error.
var Locked = locked
