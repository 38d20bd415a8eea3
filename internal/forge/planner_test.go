package forge

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"bellhop/internal/forge/fakeforge"
	"bellhop/internal/history/outbox"
)

// A desk is a planner whose plans are made up, at a fake forge.
type desk struct {
	*Planner
	t     *testing.T
	forge *fakeforge.Forge
	mark  map[string]outbox.Mark
	asked []Request
	full  bool
	err   error
	base  string
}

func (d *desk) Marks(context.Context) (map[string]outbox.Mark, error) { return d.mark, nil }
func (d *desk) SetMark(_ context.Context, target string, m outbox.Mark) error {
	if d.err != nil {
		return d.err
	}
	d.mark[target] = m
	return nil
}

func newDesk(t *testing.T, kind Kind) *desk {
	f := fakeforge.New(string(kind))
	t.Cleanup(f.Close)
	c, err := New(Config{Kind: kind, URL: f.API(), Repo: fakeforge.Repo, Token: func() (string, error) { return fakeforge.Token, nil }})
	if err != nil {
		t.Fatal(err)
	}
	d := &desk{t: t, forge: f, mark: map[string]outbox.Mark{}, base: "base"}
	d.Planner = &Planner{Client: c, Branch: "main", Log: slog.New(slog.DiscardHandler), Base: func() (string, error) { return d.base, nil }}
	d.Planner.Marks = d
	d.Plan = func(_ context.Context, r Request, base string, isFull bool) (Plan, error) {
		d.asked, d.full = append(d.asked, r), isFull
		return Plan{Marker: "<!-- mark -->", Text: "<!-- mark -->\nplan of " + r.Head + " against " + base, Digest: "d" + r.Head}, nil
	}
	return d
}

func (d *desk) do() {
	d.t.Helper()
	if err := d.round(d.t.Context()); err != nil {
		d.t.Fatal(err)
	}
	if faults := d.forge.Faults(); len(faults) > 0 {
		d.t.Fatalf("the forge refused: %q", faults)
	}
}

// want wants one comment of ours in a request, with a text and a number of edits.
func (d *desk) want(number int, text string, edits int) {
	d.t.Helper()
	var ours []fakeforge.Comment
	for _, c := range d.forge.Comments(number) {
		if !c.Theirs {
			ours = append(ours, c)
		}
	}
	if len(ours) != 1 || !strings.Contains(ours[0].Body, text) || ours[0].Edits != edits {
		d.t.Errorf("comments of request %d: %+v, want one with %q after %d edits", number, ours, text, edits)
	}
}

// A plan that is not whole, through no fault of the request, is made again: later each time, until it is.
func TestPlanThatIsNotWholeIsMadeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &forkWaits{}
		r := Request{Number: 3, Head: commitA}
		for _, want := range []time.Duration{firstForkWait, 2 * firstForkWait} {
			w.addAny(r, time.Now())
			time.Sleep(want - time.Second)
			if !w.has(r, time.Now()) {
				t.Errorf("it is planned again in less than %s", want)
			}
			time.Sleep(time.Second)
			if w.has(r, time.Now()) {
				t.Errorf("it is not planned again after %s", want)
			}
		}
	})

	d := newDesk(t, GitHub)
	plan := d.Plan
	d.Plan = func(ctx context.Context, r Request, base string, isFull bool) (Plan, error) {
		p, err := plan(ctx, r, base, isFull)
		if len(d.asked) == 1 {
			p.Again = "no network namespace"
		}
		return p, err
	}
	d.forge.Open(3, fakeforge.Request{Head: commitA, Branch: "topic"})
	d.do()
	d.want(3, "plan of "+commitA, 0)
	d.do()
	if len(d.asked) != 1 {
		t.Errorf("it was planned %d times at once", len(d.asked))
	}
	d.waits = forkWaits{} // its time has come
	d.do()
	d.want(3, "plan of "+commitA, 1)
	d.do()
	if len(d.asked) != 2 {
		t.Errorf("it was planned %d times, want twice", len(d.asked))
	}
}

// Each request has one comment, which is edited when its head or what is deployed moves, and at no other time.
func TestOneCommentForARequest(t *testing.T) {
	for _, kind := range []Kind{GitHub, Forgejo, Gitea, GitLab} {
		d := newDesk(t, kind)
		d.forge.Open(3, fakeforge.Request{Head: commitA, Branch: "topic"})
		d.do()
		d.want(3, "plan of "+commitA+" against base", 0)
		d.do()
		d.want(3, commitA, 0)
		if len(d.asked) != 1 || d.asked[0] != (Request{Number: 3, Head: commitA, Branch: "topic"}) {
			t.Errorf("%s: planned %+v, want request 3 once", kind, d.asked)
		}

		d.forge.Open(3, fakeforge.Request{Head: commitB, Branch: "topic"})
		d.do()
		d.want(3, "plan of "+commitB, 1)
		d.base = "later"
		d.do()
		d.want(3, "against later", 2)

		clear(d.mark) // bellhop.db was lost: the comment is found by its marker
		d.do()
		d.want(3, "against later", 3)

		d.forge.CloseRequest(3)
		d.do()
		plans, err := plansOf(t.Context(), d.Client, d)
		if err != nil || plans["3"].Closed.IsZero() {
			t.Errorf("%s: the request is closed, and the mark has %+v, %v", kind, plans, err)
		}
		old := plans["3"]
		old.Closed = old.Closed.Add(-8 * 24 * time.Hour)
		if err := d.remember(t.Context(), map[string]planned{"3": old}); err != nil {
			t.Fatal(err)
		}
		d.do()
		if plans, _ = plansOf(t.Context(), d.Client, d); len(plans) > 0 {
			t.Errorf("%s: the mark still has %+v of a request that was closed long ago", kind, plans)
		}
	}
}

// Between comment and mark the process ends: the comment is edited, and no second one is made.
func TestCrashAfterAComment(t *testing.T) {
	d := newDesk(t, GitHub)
	d.forge.Open(3, fakeforge.Request{Head: commitA, Branch: "topic"})
	d.err = errors.New("crash")
	if err := d.round(t.Context()); err == nil {
		t.Fatal("no crash")
	}
	d.err = nil
	d.do()
	d.want(3, commitA, 1)
}

// Forks are not planned, and so not fetched.
func TestForksAreNotPlanned(t *testing.T) {
	for _, kind := range []Kind{GitHub, Forgejo, GitLab} {
		d := newDesk(t, kind)
		d.forge.Open(4, fakeforge.Request{Head: commitA, Branch: "topic", IsFork: true})
		d.do()
		if len(d.asked) > 0 || len(d.forge.Comments(4)) > 0 {
			t.Errorf("%s: a fork was planned: %+v", kind, d.asked)
		}
	}
}

// Everybody who can read a repo of Gitea or Forgejo can open a request there without a fork: it is no request of ours.
func TestAGitRequestsAreNotPlanned(t *testing.T) {
	for _, kind := range []Kind{Forgejo, Gitea} {
		d := newDesk(t, kind)
		d.forge.Open(4, fakeforge.Request{Head: commitA, Branch: "topic", IsAGit: true})
		d.do()
		if len(d.asked) > 0 || len(d.forge.Comments(4)) > 0 {
			t.Errorf("%s: a head without a branch was planned: %+v", kind, d.asked)
		}
	}
}

// However many requests a stranger opens, and however many lead elsewhere, ours are planned.
func TestForksDoNotCrowdOutRequests(t *testing.T) {
	for _, kind := range []Kind{GitHub, Forgejo, Gitea, GitLab} {
		d := newDesk(t, kind)
		d.forge.Open(1, fakeforge.Request{Head: commitA, Branch: "topic"})
		for i := range 120 {
			d.forge.Open(2+i, fakeforge.Request{Head: commitB, Branch: "topic", IsFork: true})
			d.forge.Open(200+i, fakeforge.Request{Head: commitB, Branch: "topic", Into: "other"})
		}
		d.do()
		if len(d.asked) != 1 || d.asked[0].Number != 1 {
			t.Errorf("%s: planned %+v, want request 1", kind, d.asked)
		}
	}
}

// The list is read to a bound, and then none of those that it lacks counts as closed.
func TestListOfRequestsIsBounded(t *testing.T) {
	for _, kind := range []Kind{GitHub, Gitea, GitLab} {
		d := newDesk(t, kind)
		d.forge.Open(1, fakeforge.Request{Head: commitA, Branch: "topic"})
		d.do()
		for i := range 600 {
			d.forge.Open(2+i, fakeforge.Request{Head: commitB, Branch: "topic", IsFork: true})
		}

		before := d.forge.Requests()
		d.do()
		if n := d.forge.Requests() - before; n != requestPages {
			t.Errorf("%s: %d requests for a list that does not end, want %d", kind, n, requestPages)
		}
		if plans, err := plansOf(t.Context(), d.Client, d); err != nil || !plans["1"].Closed.IsZero() {
			t.Errorf("%s: the mark has %+v, %v, want request 1 open", kind, plans, err)
		}
	}

	d := newDesk(t, GitHub)
	for i := range 70 {
		d.forge.Open(1+i, fakeforge.Request{Head: commitA, Branch: "topic"})
	}
	if got, isAll, err := d.Client.Requests(t.Context(), "main", false); err != nil || isAll || len(got) != maxRequests || got[0].Number != 70 {
		t.Errorf("of 70 requests %d are listed, all of them: %v, %v, want the newest %d", len(got), isAll, err, maxRequests)
	}
}

// On a repo that everybody can read comments do not name each change, unless somebody says so.
func TestPlansOfPublicRepos(t *testing.T) {
	for _, kind := range []Kind{GitHub, Forgejo, GitLab} {
		d := newDesk(t, kind)
		d.forge.Open(3, fakeforge.Request{Head: commitA, Branch: "topic"})
		d.do()
		if d.full {
			t.Errorf("%s: a full plan on a public repo", kind)
		}
		d.forge.Private()
		d.do()
		if !d.full {
			t.Errorf("%s: no full plan on a private repo", kind)
		}
	}
	d := newDesk(t, GitHub)
	yes := true
	d.IsFull = &yes
	d.forge.Open(3, fakeforge.Request{Head: commitA, Branch: "topic"})
	d.do()
	if !d.full {
		t.Error("no full plan though it was asked for")
	}
}

// A comment of somebody else that begins with our marker is left alone, though the forge would let us edit it; ours is found
// behind it.
func TestCommentOfSomebodyElse(t *testing.T) {
	for _, kind := range []Kind{GitHub, Forgejo, Gitea, GitLab} {
		d := newDesk(t, kind)
		d.wantOwnComment()
	}

	d := newDesk(t, GitHub)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	d.forge.App("12345", &key.PublicKey)
	text := func() ([]byte, error) {
		return pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}), nil
	}
	if d.Client, err = New(Config{Kind: GitHub, URL: d.forge.API(), Repo: fakeforge.Repo, App: &App{ID: "12345", Key: text}}); err != nil {
		t.Fatal(err)
	}
	d.wantOwnComment()
}

// wantOwnComment plans a request in which a stranger has written our marker first.
func (d *desk) wantOwnComment() {
	d.t.Helper()
	d.forge.Open(3, fakeforge.Request{Head: commitA, Branch: "topic"})
	d.forge.Say(3, "<!-- mark -->\nhello")
	d.do()
	d.want(3, commitA, 0)
	d.forge.Open(3, fakeforge.Request{Head: commitB, Branch: "topic"})
	d.do()
	d.want(3, commitB, 1)

	clear(d.mark)
	d.do()
	d.want(3, commitB, 2)
	if c := d.forge.Comments(3)[0]; c.Body != "<!-- mark -->\nhello" {
		d.t.Errorf("%s: the comment of somebody else is %q now", d.Client.kind, c.Body)
	}
}

// A token that may not ask who it is takes no comment for its own but those that it remembers.
func TestTokenThatDoesNotKnowItsUser(t *testing.T) {
	d := newDesk(t, Forgejo)
	code := http.StatusForbidden
	d.forge.Answer = func(r *http.Request) int {
		if strings.HasSuffix(r.URL.Path, "/user") {
			return code
		}
		return 0
	}
	d.forge.Say(3, "<!-- mark -->\nhello")
	d.forge.Open(3, fakeforge.Request{Head: commitA, Branch: "topic"})
	d.do()
	d.want(3, commitA, 0)
	d.forge.Open(3, fakeforge.Request{Head: commitB, Branch: "topic"})
	d.do()
	d.want(3, commitB, 1)

	clear(d.mark) // a forge that is away is asked again, in place of a second comment
	code = http.StatusBadGateway
	if err := d.round(t.Context()); err == nil {
		t.Error("no error of a forge that is away")
	}
	d.want(3, commitB, 1)
}

// A comment that can't be edited any more, as that of another token, gets a successor.
func TestCommentThatCannotBeEdited(t *testing.T) {
	for _, code := range []int{http.StatusForbidden, http.StatusNotFound, http.StatusGone} {
		d := newDesk(t, GitHub)
		d.forge.Open(3, fakeforge.Request{Head: commitA, Branch: "topic"})
		d.do()
		d.forge.Answer = func(r *http.Request) int {
			if r.Method == http.MethodPatch {
				return code
			}
			return 0
		}
		d.forge.Open(3, fakeforge.Request{Head: commitB, Branch: "topic"})
		d.do()
		if all := d.forge.Comments(3); len(all) != 2 || !strings.Contains(all[1].Body, commitB) {
			t.Errorf("%d: comments %+v, want a second one", code, all)
		}
	}
}

// A head that was pushed while another one was planned takes its place; one that can't be planned holds up no other.
func TestNewerHeadsReplaceOlderOnes(t *testing.T) {
	d := newDesk(t, GitHub)
	d.forge.Open(1, fakeforge.Request{Head: commitA, Branch: "one"})
	d.forge.Open(2, fakeforge.Request{Head: commitA, Branch: "two"})
	plan, other := d.Plan, 0
	d.Plan = func(ctx context.Context, r Request, base string, isFull bool) (Plan, error) {
		if len(d.asked) == 0 {
			other = 3 - r.Number
			d.forge.Open(other, fakeforge.Request{Head: commitB, Branch: "moved"})
			d.asked = append(d.asked, r)
			return Plan{}, errors.New("it can't be fetched")
		}
		return plan(ctx, r, base, isFull)
	}
	d.do()
	if len(d.asked) != 2 || d.asked[1] != (Request{Number: other, Head: commitB, Branch: "moved"}) {
		t.Errorf("planned %+v, want the newer head of request %d, once", d.asked, other)
	}
}

// Where forks are wanted they come after the repo's own requests, and by their head alone: they have no branch here.
func TestForksThatAreWanted(t *testing.T) {
	for _, kind := range []Kind{GitHub, Forgejo, Gitea, GitLab} {
		d := newDesk(t, kind)
		d.Forks = true
		d.forge.Open(1, fakeforge.Request{Head: commitA, Branch: "topic"})
		for i := range 30 {
			d.forge.Open(2+i, fakeforge.Request{Head: commitB, Branch: "topic", IsFork: true})
		}
		d.do()
		if len(d.asked) != 1+maxForks || d.asked[0].Number != 1 || d.asked[0].IsFork {
			t.Fatalf("%s: planned %d requests, %+v first; want ours and %d forks", kind, len(d.asked), d.asked[0], maxForks)
		}
		if want := (Request{Number: 31, Head: commitB, IsFork: true}); d.asked[1] != want {
			t.Errorf("%s: planned %+v, want %+v", kind, d.asked[1], want)
		}
		d.want(31, commitB, 0)
	}
}

// The head of a fork that can't be planned is not fetched again in each round: it waits, longer each time. A newer head is tried at
// once, and so is the repo's own in each round.
func TestForksThatCannotBePlannedWait(t *testing.T) {
	d := newDesk(t, GitHub)
	d.Forks = true
	tries := map[string]int{}
	d.Plan = func(_ context.Context, r Request, _ string, _ bool) (Plan, error) {
		tries[r.Head]++
		return Plan{}, errors.New("the pack is larger than 256 MiB")
	}
	d.forge.Open(1, fakeforge.Request{Head: commitA, Branch: "topic"})
	d.forge.Open(2, fakeforge.Request{Head: commitB, Branch: "topic", IsFork: true})
	for range 3 {
		d.do()
		d.base += "+" // what is deployed moves: the head is as large as before
	}
	if tries[commitA] != 3 || tries[commitB] != 1 {
		t.Errorf("3 rounds planned our head %d times and the fork's %d times, want 3 and 1", tries[commitA], tries[commitB])
	}

	newer := strings.Repeat("c", 40)
	d.forge.Open(2, fakeforge.Request{Head: newer, Branch: "topic", IsFork: true})
	d.do()
	if tries[newer] != 1 {
		t.Errorf("the fork's newer head was planned %d times, want once", tries[newer])
	}

	var waits forkWaits
	now, fork := time.Now(), Request{Number: 2, Head: commitB, IsFork: true}
	for _, want := range []time.Duration{10 * time.Minute, 20 * time.Minute, 40 * time.Minute} {
		waits.add(fork, now)
		if now = now.Add(want); !waits.has(fork, now.Add(-time.Second)) || waits.has(fork, now) {
			t.Errorf("the head does not wait for %v", want)
		}
	}
	for range 20 {
		waits.add(fork, now)
	}
	if !waits.has(fork, now.Add(23*time.Hour)) || waits.has(fork, now.Add(24*time.Hour)) {
		t.Error("a head that failed often does not wait for a day")
	}
	if waits.add(Request{Number: 3, Head: commitA, IsFork: true}, now.Add(49*time.Hour)); len(waits.by) != 1 {
		t.Errorf("%d heads are remembered, want none of old times", len(waits.by)-1)
	}
}

// Whoever opened a request from a fork can block us: the forge refuses our comment, the head is not fetched again in each round, and
// other requests have their comments.
func TestForkThatTakesNoComment(t *testing.T) {
	d := newDesk(t, GitHub)
	d.Forks = true
	d.forge.Open(2, fakeforge.Request{Head: commitA, Branch: "topic", IsFork: true})
	d.forge.Open(3, fakeforge.Request{Head: commitB, Branch: "topic", IsFork: true})
	d.forge.Answer = func(r *http.Request) int {
		if r.Method == http.MethodPost && strings.Contains(r.URL.Path, "/issues/3/") {
			return http.StatusForbidden
		}
		return 0
	}
	for range 3 {
		_ = d.round(t.Context()) // the first one ends at the refusal
	}
	if len(d.asked) != 2 {
		t.Errorf("3 rounds planned %+v, want each request once", d.asked)
	}
	d.want(2, commitA, 0)
}

// Strangers can write as much into their requests as the forge takes: ours are planned all the same.
func TestLongTextsOfRequests(t *testing.T) {
	long := strings.Repeat("é\"\n", 50_000)
	for _, kind := range []Kind{GitHub, Forgejo, GitLab} {
		d := newDesk(t, kind)
		d.forge.Open(1, fakeforge.Request{Head: commitA, Branch: "topic", Body: long})
		for i := range 49 {
			d.forge.Open(2+i, fakeforge.Request{Head: commitB, Branch: "topic", IsFork: true, Body: long})
		}
		d.do()
		d.want(1, commitA, 0)
	}
}

// A server that polls looks at the repo every half a minute: the forge is asked only when another commit is deployed, or a branch
// moved.
func TestLookThatFoundNothingAsksNothing(t *testing.T) {
	for what, move := range map[string]func(base, branches *string){
		"base":     func(base, _ *string) { *base = "two" },
		"branches": func(_, branches *string) { *branches = "moved" },
	} {
		synctest.Test(t, func(t *testing.T) {
			looked, base, branches := make(chan struct{}), "one", "as before"
			p := &Planner{Base: func() (string, error) { return base, nil }, Branches: func() string { return branches }, Looked: looked}
			p.seen = p.repo(base)
			asks := make(chan time.Time, 1)
			start := time.Now()
			go func() {
				p.await(t.Context(), requestPoll, false)
				asks <- time.Now()
			}()

			for range 3 {
				looked <- struct{}{} // nobody would receive a second one, had the first been a reason to ask
			}
			synctest.Wait()
			move(&base, &branches)
			looked <- struct{}{}
			if took := (<-asks).Sub(start); took != between {
				t.Errorf("%s moved, and the forge is asked after %v, want %v", what, took, between)
			}

			p.seen, start = p.repo(base), time.Now()
			if p.await(t.Context(), requestPoll, false); time.Since(start) != requestPoll {
				t.Errorf("nothing happened, and the forge is asked after %v, want %v", time.Since(start), requestPoll)
			}
		})
	}
}
