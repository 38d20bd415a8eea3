// Package simulator lets a whole bellhop live in a world in which all goes wrong that can, for tests.
//
// A world has model hosts, a remote, and one bellhop at a time: server, trigger queue, runs, pushes and history
// in its file are the real ones. It is made of one seed and lives for some hours of fake time. Its driver lets
// one event happen after another: a push whose delivery is dropped, doubled, early or late; a host that goes
// away, loses power, reboots, takes minutes, is reinstalled, renamed, edited by hand or taken by another deployer; a
// service that fails; a key that gets another value, or leaves; a person who brings hosts back, resumes them, has keys
// put back, pauses runs or cancels one; a bellhop that is killed at a write of its database, or whose writes fail. Then
// all is well for an hour, and the world is checked (check_test.go). The same seed makes the same world: its trace
// has the same hash each time.
//
// A run of 500 seeds is part of go test, and make sim runs 10,000; with -from and -seeds they are run in parts. A seed
// that fails is printed with the command that replays it. Once the bug is mended, the seed stays in the table onceFailed
// (simulator_test.go), or in onceBlamed where the fault was the checker's. A new kind of event makes other worlds of all seeds; those of the tables that are
// older are worlds without it (rules).
//
// What a host does is in host_test.go, what its helper says in helper_test.go, keys are in keys_test.go, and the events
// are in world_test.go and persons_test.go: a new verb or state of bellhop gets an event there, and a line in
// check_test.go or checkpersons_test.go that says when it is right.
package simulator
