// Package host makes a machine hold a bundle, or puts it back.
//
// A run is one attempt to do that. The half behind the SSH channel (Serve) stages: it
// takes the offer, says what the host lacks, puts blobs on disk by digest and keys on the
// ramfs, and starts the other half (Apply) in a transient unit of a fixed name, which is the
// lock. Apply touches no connection; it appends to an events file that Serve tails. A
// journal that is open says that a run was begun and is not done; whoever finds one with
// nobody at work (Settle: systemd's restart, the next boot, the next contact) undoes it.
//
// The words: a record says what stands; a generation is what stood after one run, kept so
// that it can be restored exactly; owned is what bellhop put on the host, each entry with
// its original: what stood there before bellhop came, which returns when bellhop leaves.
//
// The promise: when a run ends, or at the next boot if it could not, what bellhop owns is
// all of the old state or all of the new. The record, the owned list and the generation
// move together, by one rename.
package host
