// Package agefile opens and seals single age files, and says who can open one.
//
// A recipient is a public key that a file is sealed for; an identity is a private key that opens it. The
// audience of a file is what its header says about who can open it. Every file sealed here carries a
// readers stanza, which names the recipients by fingerprints and is covered by the header's MAC: so the
// audience is known without a private key, and plain age still opens the file.
//
// Not one byte leaves Open before the whole file is authenticated. No error quotes what a file or an
// identity holds, and printing Identities in any way shows public keys only. A plugin runs only if the
// caller allows it (Plugins).
package agefile
