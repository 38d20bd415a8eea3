// Package refs knows the names of branches and tags: which ones a remote has, and which ones git allows.
package refs
