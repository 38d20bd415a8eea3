// Package wire reads and writes the messages between a deployer and its helper on a host.
//
// A message or a piece of a blob travels as a frame (Reader, WriteFrame); package bundle has the
// messages themselves and says in which order they come. A deployer trusts nothing that a host says: it
// reads through a HostReader, which bounds every message, and makes text of it with a filter alone
// (FilterResult, FilterSeen).
package wire
