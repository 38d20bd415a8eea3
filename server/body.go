package server

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"os"
	"time"

	"bellhop/server/admission"
)

// What a body may cost before it is known who sent it:
//
//	up to 64 KiB    read from everybody, always: that a right signature is never refused for
//	                what others did rests on this, and connections bound how many are read at once
//	up to 1 MiB     one of 64 slots, 8 for each address
//	up to 25 MiB    one of 4 places, 1 for each address; forges cap payloads there
//
// Of slots and places some are kept for addresses that authenticated within a day. Who failed
// too often gets neither. A push that is refused for room is not lost: a look at the remote
// stands in for it.
const (
	smallBody = 64 << 10
	// MaxBody is the longest webhook that is read like any other, and the longest request of a
	// socket.
	MaxBody = 1 << 20
	// MaxLargeBody is the longest webhook that is read at all.
	MaxLargeBody = 25 << 20
)

const (
	mostSlots, slotsEach, slotsReserved    = 64, 8, 16
	mostPlaces, placesEach, placesReserved = 4, 1, 2

	roomWait = 5 * time.Second // for a slot or a place; GitHub gives up after ten in all

	// A large body of somebody unknown comes at this rate at least, and within largeTime.
	largeRate      = 64 << 10 // bytes a second
	largeTime      = 20 * time.Second
	largeGrace     = 2 * time.Second // before the rate counts
	largeTimeKnown = time.Minute
)

// Why a body was not read to its end. Each goes with a status.
var (
	errTooLarge = errors.New("the body is longer than 25 MiB")
	errNoRoom   = errors.New("too many bodies are read now")
	errOver     = errors.New("this address failed too often for a body of that size")
)

// room is where bodies that are not small are read.
type room struct {
	slots  *admission.Share[netip.Addr]
	places *admission.Share[netip.Addr]
}

func newRoom() room {
	return room{
		slots:  admission.NewShare[netip.Addr](mostSlots, slotsEach, slotsReserved),
		places: admission.NewShare[netip.Addr](mostPlaces, placesEach, placesReserved),
	}
}

// A bodyReader reads one body.
type bodyReader struct {
	s     *Server
	who   admission.Claim[netip.Addr]
	over  bool // the sender failed too often
	ctx   context.Context
	conn  *http.ResponseController
	began time.Time
	buf   []byte
	size  int64 // as the sender claims; -1 when he does not
	give  []func()
}

// readBody reads the body of a webhook. The places that it took are given back by done, when the
// body is not needed any more.
func (s *Server) readBody(w http.ResponseWriter, r *http.Request, who admission.Sender) (body []byte, done func(), err error) {
	b := &bodyReader{
		s: s, ctx: r.Context(), conn: http.NewResponseController(w), size: r.ContentLength, over: s.limit.Over(who),
		who: admission.Claim[netip.Addr]{Of: who.Addr, Trusted: s.limit.Knows(who), Many: who.Shared},
	}
	done = func() {
		for _, give := range b.give {
			give()
		}
	}
	if err := b.read(r.Body); err != nil {
		done()
		return nil, nil, err
	}
	return b.buf, done, nil
}

func (b *bodyReader) read(from io.Reader) error {
	if b.size > MaxLargeBody {
		return errTooLarge
	}
	if err := b.admit(b.size); err != nil {
		return err
	}

	b.began = time.Now()
	b.buf = make([]byte, 0, 512+min(max(b.size, 0), smallBody)) // what is claimed is believed up to here
	for {
		if len(b.buf) == cap(b.buf) {
			if err := b.grow(); err != nil {
				return err
			}
		}

		_ = b.conn.SetReadDeadline(b.deadline())
		n, err := from.Read(b.buf[len(b.buf):cap(b.buf)])
		b.buf = b.buf[:len(b.buf)+n]
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// grow makes the buffer larger, when what it would hold then is admitted.
func (b *bodyReader) grow() error {
	have := int64(len(b.buf))
	if have >= MaxLargeBody+1 {
		return errTooLarge
	}
	if err := b.admit(have + 1); err != nil {
		return err
	}

	next := min(2*have, MaxLargeBody+1)
	switch {
	case have < smallBody:
		next = min(next, smallBody+1)
	case have < MaxBody:
		next = min(next, MaxBody+1)
	case b.size > have: // a megabyte came: the claim is believed from here
		next = b.size + 1
	}
	bigger := make([]byte, have, next)
	copy(bigger, b.buf)
	b.buf = bigger
	return nil
}

// admit takes what a body of n bytes needs and has not yet.
func (b *bodyReader) admit(n int64) error {
	if n > smallBody && b.over {
		return errOver
	}
	if n > smallBody && len(b.give) == 0 {
		if err := b.take(b.s.room.slots); err != nil {
			return err
		}
	}
	if n > MaxBody && len(b.give) == 1 {
		_ = b.conn.SetWriteDeadline(time.Now().Add(largeTimeKnown + 2*roomWait)) // the answer comes after it
		return b.take(b.s.room.places)
	}
	return nil
}

func (b *bodyReader) take(places *admission.Share[netip.Addr]) error {
	give, ok := places.Take(b.ctx, b.who, roomWait)
	if !ok {
		return errNoRoom
	}
	b.give = append(b.give, give)
	return nil
}

// large says that the body has, or will need, a place.
func (b *bodyReader) large() bool { return len(b.give) > 1 }

// deadline is when the next bytes must have come.
func (b *bodyReader) deadline() time.Time {
	if !b.large() {
		return b.began.Add(b.s.cfg.BodyTimeout)
	}
	if b.who.Trusted {
		return b.began.Add(largeTimeKnown)
	}

	atRate := time.Duration(len(b.buf)+largeRate) * time.Second / largeRate
	return b.began.Add(min(largeTime, largeGrace+atRate))
}

// statusOf is what a sender is told whose body was not read to its end.
func statusOf(err error) int {
	switch {
	case errors.Is(err, errTooLarge):
		return http.StatusRequestEntityTooLarge
	case errors.Is(err, errNoRoom):
		return http.StatusServiceUnavailable
	case errors.Is(err, errOver):
		return http.StatusTooManyRequests
	case errors.Is(err, os.ErrDeadlineExceeded):
		return http.StatusRequestTimeout
	}
	return http.StatusBadRequest
}
