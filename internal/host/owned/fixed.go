package owned

import "golang.org/x/sys/unix"

// Fixed says why what stands at p can't be replaced or removed, not by root either, as words that follow its
// path; "" where nothing is known of that.
func (t *Tree) Fixed(p string) string {
	dir, name, err := t.Parent(p, false)
	if err != nil {
		return ""
	}
	defer dir.Close()

	const isLocked = unix.STATX_ATTR_IMMUTABLE | unix.STATX_ATTR_APPEND
	var folder, is unix.Statx_t
	if unix.Statx(dir.FD(), "", unix.AT_EMPTY_PATH, 0, &folder) == nil && folder.Attributes&isLocked != 0 {
		return "can't be replaced, since its folder is immutable: chattr -i on the host ends that, then bellhop deploy --retry"
	}

	if unix.Statx(dir.FD(), name, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, 0, &is) != nil {
		return ""
	}
	switch {
	case is.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0:
		return "can't be replaced, since something is mounted there: umount it on the host, then bellhop deploy --retry"
	case is.Attributes&isLocked != 0:
		return "can't be replaced, since it is immutable: chattr -i on the host ends that, then bellhop deploy --retry"
	}
	return ""
}
