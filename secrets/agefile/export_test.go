package agefile

// OpensAtPlace says that the stanza which the note points the first identity to is the one for it.
func (ids *Identities) OpensAtPlace(data []byte) bool {
	_, stanzas, class := parseHeader(data)
	if class != "" {
		return false
	}
	p, known := audience(stanzas).place(ids.list[0])
	if !known {
		return false
	}
	_, err := ids.list[0].key.Unwrap(stanzas[p : p+1])
	return err == nil
}
