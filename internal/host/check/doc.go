// Package check refuses what no offer may ask of a host.
//
// An offer comes over the wire, and its sender may be anybody who got hold of a deployer's key. Each
// name, path, mode and digest of it is checked here before any of it becomes a path, a unit name
// or an argument. A Refusal is a no with the code that the deployer is told.
//
// The promise: what passes has the shape that the rest of the engine relies on. Whether the host
// can take it is asked elsewhere.
package check
