// Package owner says who could have written a file.
//
// A file is trusted when it belongs to this user or to root, and nobody else can write to it.
// Under sudo, files of the user who typed sudo are trusted too: root acts for that user.
//
// Its promise: what Check accepts was written by somebody who could change what this process
// does anyway.
package owner

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// An Error says why a file is not trusted.
type Error struct {
	Path   string
	Reason string // "belongs to nobody", "can be written to by others (mode 0777)"
}

// Error names the file and the reason.
func (e *Error) Error() string { return e.Path + " " + e.Reason }

// Check refuses a file or folder that another user wrote or can write to. Of a symbolic link
// both the link and what it leads to are looked at. A file that is not there gives an error
// that is fs.ErrNotExist; one that is not trusted gives an *Error.
func Check(path string) error {
	link, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if link.Mode()&fs.ModeSymlink == 0 {
		return CheckInfo(path, link)
	}

	if uid, known := uidOf(link); known && !trusted(uid) {
		return &Error{path, "is a link that belongs to " + nameOf(uid)}
	}
	target, err := os.Stat(path)
	if err != nil {
		return err
	}
	return CheckInfo(path, target)
}

// CheckInfo is Check for what was opened already.
func CheckInfo(path string, info fs.FileInfo) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil // a system without owners
	}
	if !trusted(stat.Uid) {
		return &Error{path, "belongs to " + nameOf(stat.Uid)}
	}

	mode := info.Mode().Perm()
	byGroup := mode&0o020 != 0 && !ownGroup(stat.Uid, stat.Gid)
	if mode&0o002 != 0 || byGroup {
		return &Error{path, fmt.Sprintf("can be written to by others (mode %04o)", mode)}
	}
	return nil
}

// CheckIn checks a file and the folder that it is in: whoever can write to the folder can put
// another file in its place.
func CheckIn(path string) error {
	if err := Check(filepath.Dir(path)); err != nil {
		return err
	}
	return Check(path)
}

// IsUntrusted says whether err, or an error that it wraps, is an *Error.
func IsUntrusted(err error) bool {
	var e *Error
	return errors.As(err, &e)
}

func uidOf(info fs.FileInfo) (uint32, bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return stat.Uid, true
}

// trusted says whether a user's files are as good as ours.
func trusted(uid uint32) bool {
	us := os.Geteuid()
	if uid == 0 || int(uid) == us {
		return true
	}
	return us == 0 && fromSudo(uid)
}

// fromSudo says whether that user typed sudo. Only root may have set the variable, since only
// root's processes ask.
func fromSudo(uid uint32) bool {
	caller, err := strconv.ParseUint(os.Getenv("SUDO_UID"), 10, 32)
	return err == nil && uint32(caller) == uid
}

// ownGroup says whether a group holds nobody but the owner: root's, or the private group that
// most systems give each user, under whose umask of 0002 all files are open to the group.
func ownGroup(uid, gid uint32) bool {
	if gid == 0 {
		return true
	}

	owner, err := user.LookupId(fmt.Sprint(uid))
	if err != nil {
		return false
	}

	group, err := user.LookupGroupId(fmt.Sprint(gid))
	if err != nil {
		return false
	}

	return owner.Gid == fmt.Sprint(gid) && group.Name == owner.Username
}

func nameOf(uid uint32) string {
	if u, err := user.LookupId(fmt.Sprint(uid)); err == nil {
		return u.Username
	}
	return fmt.Sprintf("uid %d", uid)
}
