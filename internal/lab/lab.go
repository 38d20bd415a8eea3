// Package lab builds a whole fleet inside one process, for tests and the demo.
//
// A Machine is the twin of a Linux host: a temp directory stands for its root, a small model
// of systemd (lab/systemd) reads the unit files below it, and accounts, the ramfs of keys and sealed copies
// are imitated. The engine that runs on it is the real one. A Host is an SSH server on the
// loopback that leads to a Machine; a Remote is a git repo that commits are made in on the
// spot.
//
// What is imitated says so; nothing of the lab is used on a real host. The promise: what
// passes on the twin passes on a real host, as far as the conformance suite
// (lab/conformance), which runs on both, can tell.
package lab
