// Package state keeps what bellhop remembers on a host.
//
// All of it lies in one directory that is root's alone (Dir), so plain path calls are right in it;
// everything else on the host is reached through owned.Tree. The words:
//
//   - a Generation is what the host holds after one successful run: manifest, owned list, deployer.
//     Former ones are kept, so that each can be restored exactly;
//   - the Journal is open while a run is at work. Its first line holds all that is needed to undo;
//   - the lock says that somebody is at work, and the claim which session may begin a run;
//   - the staging folder holds what a session brought, and the Order of what to do with it.
//
// The promise: the record, the owned list and the generation move together, by one rename; and the
// journal is on disk before anything of the host is touched.
package state
