package bundle

import "bellhop/internal/plain"

// HostWant is a Want as a deployer reads it: it is asked about the names that the deployer
// knows, and gives out none of the host's.
type HostWant struct {
	Files    Asked `json:"files"`
	Packages Asked `json:"packages"`
	Keys     MACs  `json:"keys"`
}

// HostReply is a Reply as a deployer reads it.
type HostReply struct {
	Error plain.Foreign `json:"error"`
}

// A HostOffer is an Offer that gives the host back a name of its own.
type HostOffer struct {
	Offer
	Formerly plain.Foreign `json:"formerly,omitzero"` // in place of Offer's
}

// A HostAsk is an Ask that gives the host back the run that it named.
type HostAsk struct {
	Verb string        `json:"verb"`
	Run  plain.Foreign `json:"run"`
}

// Asked are digests that a host asked for.
type Asked struct{ digests map[string]bool }

// Has says whether digest was asked for.
func (a Asked) Has(digest string) bool { return a.digests[digest] }

// Len is how many different ones were asked for.
func (a Asked) Len() int { return len(a.digests) }

// UnmarshalJSON reads a list of strings.
func (a *Asked) UnmarshalJSON(data []byte) error {
	var list []string
	if err := Unmarshal(data, &list); err != nil {
		return err
	}

	a.digests = make(map[string]bool, len(list))
	for _, d := range list {
		a.digests[d] = true
	}

	return nil
}

// MACs are a host's answers about its keys, by key.
type MACs struct{ of map[string][]byte }

// Of is the answer about a key.
func (m MACs) Of(key string) (mac []byte, ok bool) {
	mac, ok = m.of[key]
	return mac, ok
}

// Has says whether the host answered about a key: it is there, with the right owner and mode.
func (m MACs) Has(key string) bool { _, has := m.of[key]; return has }

// UnmarshalJSON reads an object of base64 strings.
func (m *MACs) UnmarshalJSON(data []byte) error { return Unmarshal(data, &m.of) }
