package containers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/plain"
)

// A Watched is a stack whose containers are watched.
type Watched struct {
	Stack
	Settle  time.Duration  // how long each must stay up
	Stopped []string       // by hand: not watched
	Before  map[string]int // restarts of containers before the run, by id; one that is not there has none
}

// A Failure is a container that failed.
type Failure struct {
	Service string // of the bundle
	Name    string // as people are told: SERVICE:CONTAINER
	State   State  // zero where there is no such container
	Err     error
}

// ContainerName is what people call a container of a service. systemd knows no such name, and no unit of
// systemd can be meant.
func ContainerName(service, container string) string { return service + ":" + container }

// watchEvery is how long a watch waits between two looks.
const watchEvery = 500 * time.Millisecond

// Watch looks at the containers of stacks until each has been up for its settle time and its healthcheck
// says healthy, or one fails: it ended, it was restarted by its policy, or its healthcheck says unhealthy. A container that is to run
// once is good when it ended with 0. Compose's own --wait calls a container healthy that restarts again
// and again, so it is not asked. An error is that the engine can't be asked, or that ctx ended.
func (e Engine) Watch(ctx context.Context, stacks []Watched, limit time.Duration) ([]Failure, error) {
	began := time.Now()
	for {
		var failures []Failure
		var waiting *Failure
		for i := range stacks {
			s := &stacks[i]
			now, err := e.Containers(ctx, s.Project)
			if err != nil {
				return nil, err
			}

			failed, waits := s.judge(now, time.Now())
			failures = append(failures, failed...)
			waiting = cmp.Or(waits, waiting)
		}

		switch {
		case len(failures) > 0 || waiting == nil:
			return failures, nil
		case time.Since(began) > limit:
			waiting.Err = fmt.Errorf("container %s is not healthy after %v", waiting.Name, limit.Round(time.Second))
			return []Failure{*waiting}, nil
		}

		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(watchEvery):
		}
	}
}

// judge finds the containers that failed, and one that is to be waited for, which is a failure when there is
// no time left; nil for none.
func (w *Watched) judge(all []State, now time.Time) (failures []Failure, waiting *Failure) {
	for i := range w.Containers {
		want := &w.Containers[i]
		if want.Idle || slices.Contains(w.Stopped, want.Name) {
			continue
		}

		name := ContainerName(w.Service, want.Name)
		seen := false
		for _, s := range all {
			if s.Service != want.Name {
				continue
			}

			seen = true
			isDone, err := w.one(want, &s, now)
			switch {
			case err != nil:
				failures = append(failures, Failure{Service: w.Service, Name: name, State: s, Err: fmt.Errorf("container %s %w", name, err)})
			case !isDone:
				waiting = &Failure{Service: w.Service, Name: name, State: s}
			}
		}

		if !seen {
			failures = append(failures, Failure{Service: w.Service, Name: name, Err: fmt.Errorf("container %s was not created", name)})
		}
	}
	return failures, waiting
}

// one judges one container: it counts, it failed, or it is waited for.
func (w *Watched) one(want *bundle.Container, s *State, now time.Time) (isDone bool, err error) {
	restarted := s.Restarts > w.Before[s.ID]
	mayEnd := want.Once || s.Policy == "on-failure"
	failed := s.failed()

	switch {
	case s.Status == "exited" && s.Exit == 0 && mayEnd:
		return true, nil
	case restarted && s.Error == "" && !s.OOM:
		return false, fmt.Errorf("ended and was restarted by its restart policy, %d times%s", s.Restarts-w.Before[s.ID], exitText(s))
	case failed != nil:
		return false, failed
	case s.Status != "running":
		return false, nil
	}

	hasSettled := now.Sub(s.Started) >= w.Settle
	return hasSettled && (s.Health == "" || s.Health == "healthy"), nil
}

// failed says what is wrong with a container that is to run; nil where nothing is, or not yet.
func (s *State) failed() error {
	switch {
	case s.Error != "":
		return fmt.Errorf("could not be started: %s", plain.Text(s.Error, maxLine))
	case s.OOM:
		return errors.New("was killed: the host, or its memory limit, had no memory left for it")
	case s.Status == "exited" || s.Status == "dead":
		return fmt.Errorf("ended with status %d", s.Exit)
	case s.Health == "unhealthy":
		return errors.New("is unhealthy" + saidText(s))
	}
	return nil
}

// FailedSince says what went wrong with a container since a moment; nil where nothing did. One that ended with 0 may have been meant to.
func (s *State) FailedSince(since time.Time) error {
	endedWell := s.Status == "exited" && s.Exit == 0 && s.Error == "" && !s.OOM
	endedBefore := !s.Runs() && !s.Finished.IsZero() && s.Finished.Before(since)
	if endedWell || endedBefore {
		return nil
	}
	return s.failed()
}

func exitText(s *State) string {
	if s.Exit == 0 {
		return ""
	}
	return fmt.Sprintf(", with status %d", s.Exit)
}

func saidText(s *State) string {
	said := strings.TrimSpace(s.Said)
	if said == "" {
		return ""
	}
	return ": its healthcheck says: " + plain.Text(said, maxLine)
}
