package push

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"bellhop/internal/bundle"
	"bellhop/internal/fleet"
	"bellhop/internal/link"
)

// PushKeys puts back the keys of what stands on the host, whose bundle is b. What is there
// already is not sent. isRenamed says that the host's record has a former name of it.
func (s *Session) PushKeys(run string, b *fleet.Bundle, isRenamed bool, filter *Filter) (*bundle.Result, error) {
	defer s.within(s.p.Limits.Host, "put keys back")()

	values, err := openOffered(b)
	defer ClearKeys(values)
	if err != nil {
		return nil, refused(err)
	}
	filter.know(all(values, b))
	defer filter.know(nil)

	o := &bundle.HostOffer{Offer: bundle.Offer{Run: run, Mode: bundle.ModeKeys, Base: s.Hello.Record.Generation, Deployer: s.p.Deployer,
		Digest: b.Digest, Manifest: b.Manifest.WithoutKeyDigests()}}
	if isRenamed {
		o.Formerly = s.Hello.Record.Host
	}
	return s.exchange(o, b, new(Shared), values, filter, nil)
}

// An opening is the keys of a host, on their way to be plaintext while its helper starts.
type opening struct {
	done   chan struct{}
	values map[string][]byte
	err    error
}

func openAhead(b *fleet.Bundle) *opening {
	o := &opening{done: make(chan struct{})}
	if len(b.Keys) == 0 {
		close(o.done)
		return o
	}
	go func() {
		defer close(o.done)
		o.values, o.err = openOffered(b)
	}()
	return o
}

func (o *opening) wait() (map[string][]byte, error) {
	<-o.done
	return o.values, o.err
}

// drop clears the values, which nobody may use after it.
func (o *opening) drop() {
	if o == nil {
		return
	}
	<-o.done
	ClearKeys(o.values)
}

// OpenKeys opens every key of a host: the values are compared with what the host holds, and
// taken out of every text it sends. What was opened is returned beside an error too; the caller
// clears it.
func OpenKeys(b *fleet.Bundle) (map[string][]byte, error) {
	return openKeys(b, func(error) bool { return false })
}

// openOffered opens the keys of a host that are offered to it. Left out are those of services that
// stay as they were and that nobody can open any more: the copies on the host serve.
func openOffered(b *fleet.Bundle) (map[string][]byte, error) {
	return openKeys(b, func(err error) bool { return errors.Is(err, fleet.ErrKeptKey) })
}

// all are values where every key of b is among them; nil where one is missing, so that nobody takes
// them for all that a text may hold.
func all(values map[string][]byte, b *fleet.Bundle) map[string][]byte {
	for _, k := range b.Keys {
		if _, opened := values[k.Name]; !opened {
			return nil
		}
	}
	return values
}

// openKeys is OpenKeys without the keys whose error may be left aside.
func openKeys(b *fleet.Bundle, aside func(error) bool) (map[string][]byte, error) {
	values := make(map[string][]byte, len(b.Keys))
	var mu sync.Mutex
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0)) // each costs a curve's arithmetic; a host may have hundreds

	for _, k := range b.Keys {
		g.Go(func() error {
			v, err := b.Key(k.Name)
			if err != nil && aside(err) {
				return nil
			}
			if err != nil {
				return fmt.Errorf("open key %s: %w", k.Name, err)
			}
			mu.Lock()
			defer mu.Unlock()
			values[k.Name] = v
			if len(v) > bundle.MaxKey {
				return fmt.Errorf("key %s: %d bytes are more than the cap of %d", k.Name, len(v), bundle.MaxKey)
			}
			return nil
		})
	}

	if err := g.Wait(); err != nil {
		return values, err
	}
	maps.Copy(values, b.Ingredients()) // a program prints the password, not the file around it
	return values, nil
}

// ClearKeys overwrites values.
func ClearKeys(values map[string][]byte) {
	for _, v := range values {
		clear(v)
	}
}

// OpenIdle is Open once no run is at work on the host: a push of keys waits for the one that is,
// as long as a push of a bundle would. What came of that run is not told here.
func (p *Pusher) OpenIdle(ctx context.Context, t link.Target) (*Session, error) {
	began := time.Now()
	for {
		s, err := p.Open(ctx, t, 0)
		if err != nil || s.Hello.Open.IsEmpty() || time.Since(began) >= p.Limits.Patience {
			return s, err
		}

		done := s.within(p.Limits.Patience, "wait for the run that is at work there")
		err = s.waitForOther(ctx, nil, p.NewFilter(nil))
		done()
		s.Close()
		if !errors.Is(err, errBusy) {
			return nil, err
		}
		if !pause(ctx, p.Limits.Retry) {
			return nil, ctx.Err()
		}
	}
}
