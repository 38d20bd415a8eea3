package agefile_test

import (
	"bytes"
	"testing"

	"filippo.io/age"

	"bellhop/secrets/agefile"
)

// greaser adds a stanza that no reader has, as rage does.
type greaser struct{ age.Recipient }

func (g greaser) Wrap(key []byte) ([]*age.Stanza, error) {
	ss, err := g.Recipient.Wrap(key)
	return append(ss, &age.Stanza{Type: "x9f-grease", Args: []string{"a"}, Body: []byte("nothing")}), err
}

func TestGreaseIsNoReader(t *testing.T) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w, err := age.Encrypt(&out, greaser{id.Recipient()})
	if err != nil {
		t.Fatal(err)
	}
	w.Write([]byte("value"))
	w.Close()

	a, err := agefile.Readers(out.Bytes())
	if err != nil || a.Stanzas != 1 || len(a.Types) != 1 || a.Types[0] != "X25519" {
		t.Errorf("Readers = %+v, %v; want one of type X25519", a, err)
	}
}
