// Package host makes a machine hold a bundle, or puts it back.
//
// A run is one attempt to do that, and this package tells it from its beginning to its end. Apply runs
// in a transient unit of a fixed name, which is the lock. It makes a plan (host/plan), opens the
// journal, stops what leaves, puts files, accounts and keys in place, starts what is new, asks
// whether it is healthy, and commits. Whatever goes wrong on the way is undone. A journal that is
// open says that a run was begun and is not done; whoever finds one with nobody at work (Settle:
// systemd's restart, the next boot, the next contact) undoes it.
//
// The words: a record says what stands; a generation is what stood after one run, kept so that it
// can be restored exactly; owned is what bellhop put on the host, each entry with its original: what
// stood there before bellhop came, which returns when bellhop leaves. They are kept by host/state.
// What a deployer talks to is host/helper, and the computer below is a host/machine.
//
// The promise: when a run ends, or at the next boot if it could not, what bellhop owns is all of
// the old state or all of the new.
package host
