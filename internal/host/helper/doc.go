// Package helper is the program that a deployer starts on a host over SSH.
//
// A session is one conversation: the helper says who it is and what the host holds (Hello), reads one
// offer or one question, asks for the bytes that the host lacks, and stages them: blobs on disk by
// digest, keys on the ramfs. Then it hands the run over to a transient unit of a fixed name, which
// runs host.Apply, and sends on the events that this leaves in a file. Main is the command line.
//
// The promise: nothing on the host changes in a session but what is staged, so a line may be cut at
// any moment; and a session that began before the one that claimed the host last begins nothing.
package helper
