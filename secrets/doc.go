// Package secrets is the secrets of a config repo: age files, and the rules for who reads them.
//
// A secret is one age file below secrets/. A reader is someone who can open it: a name for one or more
// recipients (public keys). A rule says which readers a path has. A file is current when exactly the
// readers of its rule can open it, stale otherwise. A Store is the secrets in a person's work tree, and
// its methods are the verbs of `bellhop secret`. A Finding is one thing that is not as it should be;
// Verify and CheckPush find them without a private key. The files themselves are opened and sealed by
// secrets/agefile.
//
// Two promises. No error, log line or finding quotes what a file or an identity holds. Plaintext is
// never written to anything that is not RAM: editing happens on a tmpfs that is removed on every way out.
//
// One honest limit: Go cannot promise to wipe memory. Values are kept in byte slices that are
// cleared after use and live briefly; copies made by the runtime are beyond reach, which is
// why the process is made undumpable (Undumpable).
package secrets
