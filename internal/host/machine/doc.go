// Package machine says what the engine asks of the computer that it runs on.
//
// A Machine is the root of its files, systemd, the accounts, the place for keys and the clock. The
// parts are interfaces: host/real puts together the real ones, the lab a twin in a temporary
// directory that needs no privileges. A UnitState is what systemd says of one unit, an Exit how
// its program ended.
//
// The promise: nothing of the engine reaches the computer by any other way, so that one
// conformance suite over both machines covers all that it does to a host.
package machine
