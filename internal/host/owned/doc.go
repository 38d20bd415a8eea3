// Package owned looks at the files of a host and replaces them.
//
// A service user owns folders that bellhop writes into as root, and may exchange any of them for
// a link at any moment. Then a plain open would read or write wherever he likes. os.Root is no
// help: it follows a planted link that stays below, and refuses /var/run. So:
//
//  1. A path is walked from the root, one component at a time, by descriptor, never following.
//  2. A component that is a link is followed only if the link and the folder that it lies in
//     belong to root, and nobody else may write to that folder.
//  3. All that is said of a file (bytes, mode, owner) comes from one descriptor of it, and all that
//     is done to it (chown, chmod, rename, unlink) is done by descriptor.
//
// A Tree is the files of a host, a Folder one that is held open, an Entry what stands at a path or
// should, a Change one path that becomes another entry, and Blobs the bytes of files by digest. The
// promise: nobody but root decides what is read or written outside of his own folders, and what is
// put back is setuid only where nobody but root could have made it so.
package owned
