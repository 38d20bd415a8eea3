package fleet

import "io/fs"

type cache struct{}
type state struct{ config *config }
type config struct{ byName map[string]int }
type hostFacts struct{}

// Load reads tree. The error is Problems when the config is at fault, all of it at once.
func (l *Loader) Load(tree fs.FS) (*Fleet, error) { return nil, nil }

// Bundle is what the host of that name should hold. The error is Problems that concern this
// host alone. While nothing changes that the host depends on, the same Loader gives the same
// pointer.
func (f *Fleet) Bundle(host string) (*Bundle, error) { return nil, nil }

// Changed lists the hosts whose bundle may differ from that in since, an earlier fleet of
// the same Loader; all of them when since is nil. Hosts that left are not in it.
func (f *Fleet) Changed(since *Fleet) []*Host { return nil }

// Select lists the hosts that expr names, in the order of names: hosts, globs, @tag, ! to
// exclude, parted by commas. "" is all of them; so is an expr that only excludes, less those.
func (f *Fleet) Select(expr string) ([]*Host, error) { return nil, nil }

// Schema is the JSON Schema of bellhop.yaml and service.yaml, as one document with a
// definition for each.
func Schema() ([]byte, error) { return nil, nil }

// ReadReaders reads readers: and verify: of bellhop.yaml, and nothing else of tree.
func ReadReaders(tree fs.FS) (Readers, error) { return Readers{}, nil }
