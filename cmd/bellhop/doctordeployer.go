package main

import (
	"context"
	"errors"

	"bellhop/internal/doctor"
	"bellhop/server"
)

// What doctor asks of the running server beside its status.

// doctorDeployer asks the server for its health. A server of an earlier release does not know the question.
func doctorDeployer(ctx context.Context, client *server.Client) []symptom {
	h, err := server.Call[doctor.Health](ctx, client, "health", nil, nil)
	if err != nil {
		return []symptom{{what: "deployer", note: "the server is of a release that does not tell more"}}
	}

	var all []symptom
	h.Clock = doctor.ReadClock() // here, on the same machine: the server may not
	for _, f := range h.Findings() {
		s := symptom{what: f.What, note: f.Note}
		if f.Warn != "" {
			s.warn = hint(errors.New(f.Warn), "%s", f.ToDo)
		}
		all = append(all, s)
	}
	return all
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
