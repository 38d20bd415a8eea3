package main

import (
	"context"
	"errors"
	"time"

	"bellhop/deploy/keys"
	"bellhop/internal/history"
)

// What a person did to hosts beside deploying: history has it as a run without a commit.

// pushKeys pushes keys for somebody, and has history remember it.
func (h *app) pushKeys(ctx context.Context, by, on string) ([]keys.HostKeys, error) {
	began := time.Now()
	hosts, err := h.deployer.Keys().Push(ctx, on)
	var acts []history.HostAct
	failed := 0
	for _, host := range hosts {
		act := history.HostAct{Host: host.Name, Outcome: history.OutcomeDone}
		for _, k := range host.Keys {
			act.Changed = append(act.Changed, "key:"+k.Name)
		}

		if host.Error != nil {
			failed++
			act.Outcome, act.Changed, act.Error = history.OutcomeFailed, nil, *host.Error
		}

		acts = append(acts, act)
	}

	outcome := history.OutcomeDone
	switch {
	case err != nil, failed > 0 && failed == len(hosts):
		outcome = history.OutcomeFailed
	case failed > 0:
		outcome = history.OutcomePartial
	}

	return hosts, errors.Join(err, h.remember(ctx, "key push", by, began, outcome, acts, err))
}

// rebootOne reboots a host for somebody, and has history remember it.
func (h *app) rebootOne(ctx context.Context, by, host string, limit time.Duration, tell func(string)) error {
	began, outcome := time.Now(), history.OutcomeDone
	err := h.deployer.Reboot(ctx, host, limit, tell)
	if err != nil {
		err, outcome = &codeError{exitHosts, err}, history.OutcomeFailed
	}
	act := history.HostAct{Host: host, Outcome: outcome}
	return errors.Join(err, h.remember(ctx, "reboot", by, began, outcome, []history.HostAct{act}, err))
}

// remember stores what was done. It is written also when the one who asked went away meanwhile.
func (h *app) remember(ctx context.Context, cause, by string, began time.Time, outcome history.Outcome, acts []history.HostAct, err error) error {
	text := ""
	if err != nil {
		text = err.Error()
	}
	start := history.Start{ID: history.NewRunID(), Cause: cause, By: by, At: began}
	return h.history.Acted(context.WithoutCancel(ctx), start, outcome, text, acts)
}
