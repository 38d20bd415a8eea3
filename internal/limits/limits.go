// Package limits has the bounds that several packages must agree on: what one of them serves, the
// next has to read. It imports nothing.
package limits

// RepoFile is the largest file of a config repo that is read, in bytes: by gitsync and worktree, which
// serve trees, and by fleet and secrets, which read them. What is larger belongs in a package.
const RepoFile = 32 << 20
