// Package secrets opens and seals the age files committed to the config repo.
//
// A secret is one age file. A reader is someone who can open it: a name that stands for one
// or more recipients (public keys). A rule says which readers a path has. An identity is a
// private key that opens. A file is current when exactly the readers of its rule can open it.
// Every file sealed here carries a readers stanza, covered by the header's MAC: who can read
// it is then known without a private key, and plain age still opens it.
//
// Three promises. Not one byte leaves Open before the whole file is authenticated. No error,
// log line or finding quotes what a file or an identity holds. Plaintext is never written to
// anything that is not RAM: editing happens on a tmpfs that is removed on every way out.
//
// One honest limit: Go cannot promise to wipe memory. Values are kept in byte slices that are
// cleared after use and live briefly; copies made by the runtime are beyond reach, which is
// why the process is made undumpable (Undumpable).
package secrets
