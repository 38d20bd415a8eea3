// Package packages unpacks the packages of services into a store.
//
// A store holds one folder for each package, named by the digest of its archive. A package is
// unpacked before anything of a run is stopped: a broken archive is refused while nothing has
// changed, and the time between stop and start does not grow with its size.
//
// An archive comes from the internet, known only by its digest. The promise: what comes out of it
// are folders, regular files and links that stay inside; no setuid bit, no device, no path that
// leaves; capped in bytes, in entries, in depth and in the memory that unpacking takes. All of it
// goes through an os.Root of a folder that is root's alone.
package packages
