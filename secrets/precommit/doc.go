// Package precommit looks at a commit before git has it: the git hook that calls bellhop, and the trees
// that the hook compares.
//
// Staged is what the next commit will hold, Committed what one holds already; both are read through the
// git program that the person has. Install writes the hook, and never over another's. The hook fails
// closed: where bellhop is not found, the commit is refused, since a check that is skipped in silence
// protects nobody.
package precommit
