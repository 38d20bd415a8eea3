// Package keyfiles puts the keys of a run in place, and back.
//
// Keys live on the ramfs and nowhere else. What a session brings waits there in a folder of its
// own, and so do the values that a run replaces, until the run is done: both on the same
// filesystem, so a key is put in place, and back, by a rename. A Store is all keys of a host, a
// Reader looks at those in place, and a Root is the place for keys, open to be written.
//
// The promise: a key's value is in no file on a disk but its sealed copy, and its digest is in none.
package keyfiles
