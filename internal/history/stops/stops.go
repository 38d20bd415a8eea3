// Package stops remembers what keeps hosts from being brought to the head.
//
// A Pause is of all hosts: no run deploys until somebody resumes. A Hold is of one host, which a
// person brought back to what it held before. A Stop is of one host and one commit: a run that was to
// bring the host there stopped before it came to it, since too many hosts failed or since a person
// cancelled it, and the host is not pushed to that commit unless a person asks.
//
// The package says what they are, how they are stored, and how people read them. What begins and ends a
// hold or a stop changes hosts as well, so history does that.
package stops
