package history

import (
	"crypto/rand"
	"encoding/hex"
	"time"
)

// NewRunID makes the id of a run: its time, so that ids sort, and a little chance.
func NewRunID() string {
	var b [3]byte
	rand.Read(b[:])
	return time.Now().UTC().Format("20060102-150405-") + hex.EncodeToString(b[:])
}
