package store

import (
	"database/sql"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Before a release changes the schema of the file, it copies the file beside itself, so that the
// release before can be taken back: it refuses the changed file and names the copy.

// copyName is where the file at path is copied to while its schema has version v.
func copyName(path string, v int64) string { return path + ".schema-" + strconv.FormatInt(v, 10) }

// copyTo copies the file, whole and readable by its owner alone. An older copy under that name is
// of an upgrade that was cut off.
func copyTo(db *sql.DB, to string) error {
	if err := os.Remove(to); err != nil && !os.IsNotExist(err) {
		return err
	}
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) // SQLite fills an empty file
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	_, err = db.Exec(`VACUUM INTO ?`, to)
	return err
}

// copiesOf names the copies of the file at path that this release can read, as the end of a
// sentence; "" when there is none.
func copiesOf(path string, newest int64) string {
	for v := newest; v > 0; v-- {
		if _, err := os.Stat(copyName(path, v)); err == nil {
			return "; or stop all of bellhop and put back the copy from before that upgrade: mv " +
				strings.Join([]string{copyName(filepath.Base(path), v), filepath.Base(path)}, " ")
		}
	}
	return ""
}
