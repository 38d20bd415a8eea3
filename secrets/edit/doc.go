// Package edit lets a person edit a secret in an editor of theirs, with the plaintext in RAM alone.
//
// The copy is a file in a folder of a tmpfs that only this user can enter. It is wiped on every way out:
// success, an error, a signal, a panic; a process of its own, the guard, removes it when this one is
// killed. Editors that are known are started with arguments that keep them from writing swap files,
// backups and histories elsewhere.
package edit
