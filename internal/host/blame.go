package host

import (
	"errors"

	"bellhop/internal/bundle"
	"bellhop/internal/host/blame"
	"bellhop/internal/host/check"
	"bellhop/internal/host/keyfiles"
)

// blame puts into the result which services cause is due to, and what was seen of them.
func (r *run) blame(cause error) {
	var of *blame.Error
	if errors.As(cause, &of) {
		r.res.Failing, r.res.Evidence = of.Services, r.withoutKeys(of.Evidence)
		return
	}
	var no *check.Refusal
	if errors.As(cause, &no) {
		r.res.Failing, r.res.Barred, r.res.Evidence = no.Services, no.Barred, r.withoutKeys(no.Seen)
	}
}

// withoutKeys is evidence as it may be written to disk. A unit that prints a key must not bring its
// value there by way of bellhop.
func (r *task) withoutKeys(all []bundle.Evidence) []bundle.Evidence {
	if len(all) == 0 {
		return nil
	}
	return blame.Mask(all, r.mask())
}

// plainText is the text of an error as it may be written to disk: an answer that a service gave, with a
// key in it, may be quoted there.
func (r *task) plainText(err error) string { return r.mask()(err.Error()) }

// mask is what takes the values of the keys of this host out of a text.
func (r *task) mask() func(string) string {
	return keyfiles.Of(r.m).MaskOrWithhold(r.offer.Manifest.Keys...)
}
