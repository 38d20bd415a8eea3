package state

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"

	"bellhop/internal/bundle"
	"bellhop/internal/host/owned"
)

// stampsPath lies beside the record. A host of a former release has none.
const stampsPath = bundle.StateDir + "/stamps"

// A FileStamp is an owned file as it was when its bytes were known: written by a run, or read by one.
type FileStamp struct {
	owned.Stamp
	Digest string `json:"digest"` // of its bytes
}

// Stamps are those of owned files, by path. They spare reading: what is not in them is read.
type Stamps map[string]FileStamp

// Stamps reads what SaveStamps wrote; nothing where that is lost or torn.
func (m Dir) Stamps() Stamps {
	p, err := os.ReadFile(m.At(stampsPath))
	if err != nil {
		return nil
	}

	var s Stamps
	if json.Unmarshal(p, &s) != nil {
		return nil
	}
	return s
}

// SaveStamps writes them. They are not synced: they can be lost. Whoever writes has the lock.
func (m Dir) SaveStamps(s Stamps) error {
	p, err := json.Marshal(s)
	if err != nil {
		return err
	}

	tmp := m.At(stampsPath) + ".new"
	err = os.WriteFile(tmp, p, 0o600)
	if err == nil {
		err = os.Rename(tmp, m.At(stampsPath))
	}
	if err != nil {
		os.Remove(tmp)
	}
	return err
}

// ForgetStamps removes them.
func (m Dir) ForgetStamps() error {
	if err := os.Remove(m.At(stampsPath)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
