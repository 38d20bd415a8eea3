// Package plan decides what one run does to a host, before anything is touched.
//
// A Plan compares what an offer wants with what the host really has: files and links by path,
// folders, keys, accounts, units. A desire is what shall stand at a path; Units is what systemd is
// asked to do. A service whose user bars the way to one of its files is held: what the host has of
// it stays, and the rest of the offer is planned.
//
// The promise: planning changes nothing on the host. Whatever the host can't take, an occupied path,
// a foreign user, a masked unit, a unit file that its systemd would ignore, is refused here.
package plan
