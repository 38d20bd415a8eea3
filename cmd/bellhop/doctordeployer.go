package main

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"bellhop/internal/history/deliveries"
	"bellhop/server"
)

// What doctor asks of the running server beside its status.

// A healthAnswer is how a deployer does, beside its hosts.
type healthAnswer struct {
	Now          time.Time            `json:"now"`
	Free         uint64               `json:"free"`    // bytes of the state directory's file system; 0: not known
	Waiting      int                  `json:"waiting"` // messages that somebody is to be told and was not
	LastDelivery *deliveries.Delivery `json:"last_delivery"`
}

// health answers for doctor.
func (s *serving) health(ctx context.Context) (healthAnswer, error) {
	a := healthAnswer{Now: time.Now().UTC()}
	var fs syscall.Statfs_t
	if err := syscall.Statfs(s.app.state.path("."), &fs); err == nil {
		a.Free = fs.Bavail * uint64(fs.Bsize)
	}

	var err error
	if a.Waiting, err = s.app.history.Outgoing().Waiting(ctx); err != nil {
		return a, err
	}
	ds, err := s.app.history.Deliveries(ctx, 1)
	if len(ds) > 0 {
		a.LastDelivery = &ds[0]
	}
	return a, err
}

// leastFree is how much room a deployer wants for a fetch, a copy of its history and packages.
const leastFree = 1 << 30

// doctorDeployer asks the server for its health. A server of an earlier release does not know the question.
func doctorDeployer(ctx context.Context, client *server.Client) []symptom {
	a, err := server.Call[healthAnswer](ctx, client, "health", nil, nil)
	if err != nil {
		return []symptom{{what: "deployer", note: "the server is of a release that does not tell more"}}
	}

	disk := symptom{what: "disk of the deployer", note: fmt.Sprintf("%.1f GiB are free", float64(a.Free)/(1<<30))}
	if a.Free > 0 && a.Free < leastFree {
		disk.warn = hint(fmt.Errorf("%d MiB are free: a fetch, or an update of bellhop.db, may not fit", a.Free>>20), "free 1 GiB where the state directory is")
	}

	messages := symptom{what: "messages", note: "none waits"}
	if a.Waiting > 0 {
		messages.note = count(a.Waiting, "row") + " of the outbox are to be sent"
	}

	last := symptom{what: "last delivery", note: "none yet"}
	if d := a.LastDelivery; d != nil {
		last.note = fmt.Sprintf("%s: %s", ago(a.Now, d.At), d.Answer)
	}
	return []symptom{disk, messages, last}
}

// doctorReaders finds secrets that are lost with one machine.
func doctorReaders(dir string) symptom {
	s := symptom{what: "readers"}
	rules, err := rulesOf(dir)
	if err != nil {
		return s // secrets says so
	}

	s.note = count(len(rules.Names), "reader")
	if len(rules.Names) < 2 {
		s.warn = hint(errors.New("fewer than two readers can open the secrets: a lost deployer loses the secrets"),
			"add a key that is kept offline: age-keygen, its public line under readers: in bellhop.yaml, then bellhop secret rekey")
	}
	return s
}
