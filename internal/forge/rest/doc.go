// Package rest asks the REST API of a git host, which nobody has to trust.
//
// A Client logs in at one host alone, follows no redirect to another, reads a bounded part of an
// answer, and cuts the long strings in it. An Error is what the host answered in place of what was
// asked; a token is in no error and in no text of one.
package rest
