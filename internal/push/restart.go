package push

import (
	"bellhop/internal/bundle"
	"bellhop/internal/bundle/wire"
)

// Restart has a host restart the units of a service, behind the run that is at work there. progress
// hears of steps. The result's outcome is done, nothing, failed or refused; an error is that there is no result.
func (s *Session) Restart(run, service string, filter *Filter, progress func(step, text string)) (*bundle.Result, error) {
	defer s.within(s.p.Limits.Host+bundle.MaxStart, "restart "+service)()

	if err := wire.WriteFrame(s.stream, bundle.FrameAsk, bundle.Ask{Verb: bundle.AskRestart, Run: run, Service: service}); err != nil {
		return nil, lost(s.why(err))
	}
	res, err := s.follow(nil, filter, progress)
	if err != nil {
		return nil, lost(s.why(err))
	}
	return res, nil
}
