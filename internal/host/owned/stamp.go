package owned

import "golang.org/x/sys/unix"

// A Stamp is by what a file is known again without being read: who writes to a file, or puts another in
// its place, changes one of these. The kernel's clock goes in steps of a few milliseconds, so a second
// write of as many bytes within one step is not seen.
type Stamp struct {
	Size     int64  `json:"size"`
	Modified int64  `json:"mtime"` // Unix nanoseconds
	Changed  int64  `json:"ctime"` // Unix nanoseconds; nobody sets it but by the clock
	Inode    uint64 `json:"inode"`
}

func stampOf(st *unix.Stat_t) Stamp {
	return Stamp{Size: st.Size, Modified: st.Mtim.Nano(), Changed: st.Ctim.Nano(), Inode: st.Ino}
}
