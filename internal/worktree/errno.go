package worktree

import "syscall"

// errNotDir is what a path says that leads through a file.
var errNotDir = syscall.ENOTDIR
