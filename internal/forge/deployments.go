package forge

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"bellhop/internal/forge/rest"
	"bellhop/internal/history"
	"bellhop/internal/plain"
)

// A deployment is what GitHub shows of one run that changes something, below its environments: the run's commit, and what came
// of it on the hosts. Other forges have none.

// States of a deployment, as GitHub spells them.
const (
	inProgress        = "in_progress"
	deploymentSuccess = "success"
	deploymentFailure = "failure"
	deploymentError   = "error"
)

// A deployment is what a forge is told of one run.
type deployment struct {
	commit      string
	environment string
	run         string
	state       string
	text        string // one line of at most MaxDescription bytes
	url         string // of the run's page; "": there is none
}

// A deploymentAPI is a forge that shows deployments.
type deploymentAPI interface {
	// addDeployment makes the deployment of a run, or finds the one that was made for it.
	addDeployment(ctx context.Context, d deployment) (int64, error)
	setDeployment(ctx context.Context, id int64, d deployment) error
}

// deployed is what the forge knows of one run, as the mark has it.
type deployed struct {
	ID    int64  `json:"id"`
	State string `json:"state"`
}

// runKey is the entry of a mark for a run.
func runKey(run string) string { return "run " + run }

func deployedOf(text string) deployed {
	var d deployed
	_ = json.Unmarshal([]byte(text), &d) // "" is nothing
	return d
}

// deploymentOf is what a forge is to be told of a run; false when the run changes nothing.
func (v *view) deploymentOf(r *history.Run) (deployment, bool) {
	if r.Commit == nil || !commitID.MatchString(*r.Commit) {
		return deployment{}, false
	}

	d := deployment{commit: *r.Commit, environment: deref(v.status.Network), run: r.ID, state: inProgress, text: deployingText(r)}
	touches := false
	var t tally
	for _, h := range r.Hosts {
		word := ""
		if h.Outcome != nil {
			word = string(*h.Outcome)
		}
		isLost := r.FinishedAt != nil && word == string(history.OutcomeUnknown)
		if isLost { // nobody will hear of it in this run
			t.hosts, t.left = t.hosts+1, append(t.left, h.Name)
		} else {
			t.add(h.Name, word, deref(h.Error))
		}
		touches = touches || isTouched(word)
		if word == string(history.OutcomeDone) {
			t.changed++
		}
	}

	if !touches || d.environment == "" {
		return deployment{}, false
	}

	isCancelled := r.Outcome != nil && *r.Outcome == history.OutcomeCancelled
	isOver := r.FinishedAt != nil && (!t.isOpen || isCancelled)
	switch {
	case !isOver:
	case len(t.bad) > 0:
		d.state, d.text = deploymentFailure, t.failure()
	case len(t.left) > 0, isCancelled:
		d.state, d.text = deploymentError, fmt.Sprintf("not deployed everywhere: %d of %s changed", t.changed, count(t.hosts, "host"))
	default:
		d.state, d.text = deploymentSuccess, t.success()
	}

	d.text = plain.Line(plain.Visible(d.text), MaxDescription)
	return d, true
}

// isTouched says that a run is at work on a host, or that it was.
func isTouched(word string) bool {
	switch history.Outcome(word) {
	case "", history.OutcomeDone, history.OutcomeFailed, history.OutcomeRolledBack, history.OutcomeUnconfirmed, history.OutcomeHeldBack:
		return true
	}
	return history.State(word) == history.Deploying
}

// deploymentRetry is the entry of retries for all deployments.
const deploymentRetry = "deployments"

// deniedWait is how long deployments are left alone when the token lacks the right.
const deniedWait = time.Hour

// tryDeployments tells of deployments, unless the forge refused a short while ago. What is refused here holds up no status: a token
// may have the right for those alone. wait is when to look again.
func (r *Reporter) tryDeployments(ctx context.Context, v *view, mark map[string]string, p *progress) (isDone bool, wait time.Duration) {
	before := p.retries[deploymentRetry]
	if wait := time.Until(before.next); wait > 0 {
		return before.isDenied, wait
	}

	isDone, err := r.deployments(ctx, v, mark)
	if ctx.Err() == nil {
		r.Troubles.note("deployments", err)
	}
	if err == nil || ctx.Err() != nil {
		delete(p.retries, deploymentRetry)
		return isDone, idle
	}

	var said *rest.Error
	now := retry{wait: min(cmp.Or(before.wait*2, firstWait), lastWait)}
	if errors.As(err, &said) {
		now.isDenied = said.Code == http.StatusForbidden && said.After == 0 || said.Code == http.StatusNotFound
		now.wait = max(now.wait, said.After)
	}
	if now.isDenied {
		now.wait = deniedWait
	}
	now.next = time.Now().Add(now.wait)
	p.retries[deploymentRetry] = now
	r.Log.Warn("deployments not sent", "err", err, "again", now.wait)
	return now.isDenied, now.wait
}

// deployments tells the forge of the runs that it does not know. isDone is false while one is open, or could not be told.
func (r *Reporter) deployments(ctx context.Context, v *view, mark map[string]string) (isDone bool, err error) {
	api, has := r.Client.api.(deploymentAPI)
	if !has {
		return true, nil
	}

	isDone = true
	for _, run := range v.toDeploy(mark) {
		d, ok := v.deploymentOf(run)
		was := deployedOf(mark[runKey(run.ID)])
		if !ok || was.State == d.state {
			isDone = isDone && was.State != inProgress
			continue
		}
		if r.RunURL != nil {
			d.url = r.RunURL(d.run)
		}
		if err := r.deploy(ctx, api, v, d, was, mark); err != nil {
			return false, err
		}
		isDone = isDone && d.state != inProgress
	}

	return isDone, nil
}

// toDeploy are the runs that may have to be told of, oldest first.
func (v *view) toDeploy(mark map[string]string) []*history.Run {
	isNew := true // than the newest run that is handled
	var runs []*history.Run
	for i := range v.runs {
		run := &v.runs[i]
		isNew = isNew && run.ID != mark[handledKey]
		if isNew || mark[runKey(run.ID)] != "" {
			runs = append(runs, run)
		}
	}

	slices.Reverse(runs)
	return runs
}

// deploy tells of one run, and remembers that.
func (r *Reporter) deploy(ctx context.Context, api deploymentAPI, v *view, d deployment, was deployed, mark map[string]string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*rest.RequestTime)
	defer cancel()

	var err error
	if was.ID == 0 {
		if was.ID, err = api.addDeployment(ctx, d); err != nil {
			return err
		}
	}

	if err := api.setDeployment(ctx, was.ID, d); err != nil {
		return err
	}

	r.Log.Info("deployment sent", "run", d.run, "commit", d.commit, "state", d.state, "forge", r.Client.Name())

	text, err := json.Marshal(deployed{ID: was.ID, State: d.state})
	if err != nil {
		return err
	}

	mark[runKey(d.run)] = string(text)
	return r.remember(ctx, v, mark)
}

// keepsRun says that an entry of a mark is of a run that is still looked at.
func (v *view) keepsRun(key string) bool {
	id := strings.TrimPrefix(key, runKey(""))
	for _, r := range v.runs {
		if r.ID == id {
			return true
		}
	}

	return false
}
