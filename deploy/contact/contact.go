// Package contact is what every contact with a host does, whatever it is about: it reads the host's own
// record and corrects what history remembers, and shows what a host said through a filter alone.
//
// Where history and a host differ the host is right.
package contact

import (
	"context"
	"log/slog"
	"time"

	"bellhop/deploy/commits"
	"bellhop/deploy/hosts"
	"bellhop/deploy/routes"
	"bellhop/internal/fleet"
	"bellhop/internal/history"
	"bellhop/internal/plain"
	"bellhop/internal/push"
)

// A Contact is what a contact with hosts needs, whatever it is about.
type Contact struct {
	History *history.DB
	Hosts   *hosts.Table
	Links   routes.Links
	ID      string // of this deployer: what another one put on a host is never what is wanted
	Log     *slog.Logger
	Limit   time.Duration // for everything on one host
	Retry   time.Duration // before what did not work is tried again

	Pusher  func() *push.Pusher    // opens sessions, as the deployer is set up now
	Archive func() commits.Archive // what hosts hold
	Fleet   func() *fleet.Fleet    // of the newest plan; nil before the first
	Ring    func(cause string)     // asks for a run

	// Load is the fleet that was loaded last, else that of the branch's head.
	Load func(context.Context) (*fleet.Fleet, error)
}

// revealed is an error whose text can be shown, for those who ask what kind it is.
type revealed struct {
	err  error
	text string
}

// AsText is err with a text that can be shown.
func AsText(err error, text string) error { return &revealed{err, text} }

func (e *revealed) Error() string { return e.text }
func (e *revealed) Unwrap() error { return e.err }

// Reveal is the text of err, in which a host may be quoted that holds, or was to hold, b.
func (c Contact) Reveal(ctx context.Context, err error, host string, b *fleet.Bundle) string {
	filter := c.Pusher().NewFilter(nil, push.KeysOf(b), c.Archive().FormerKeys(ctx, host, b))
	defer filter.Drop()
	return plain.Text(filter.Reveal(err), MaxText)
}

// MaxText is how long a text is that is stored or shown of a host, bytes.
const MaxText = 16 << 10

// ForgetLast drops what history remembers that a host holds: the machine that answers there may be
// another, or a new one. So the host is not current until the right machine has answered.
func ForgetLast(db *history.DB, log *slog.Logger, host string) {
	if err := db.Correct(context.Background(), host, func(h *history.Host) {
		if h.Digest, h.Follows = "", false; h.State == history.Current || h.State == history.Held {
			h.State = history.Behind
		}
	}); err != nil {
		log.Error("forget what a host holds", "host", host, "err", err)
	}
}
