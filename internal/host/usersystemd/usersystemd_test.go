package usersystemd_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"testing"
	"testing/synctest"

	"bellhop/internal/host/machine"
	"bellhop/internal/host/usersystemd"
)

// A fake knows units by name, and notes what it is asked.
type fake struct {
	machine.Systemd
	units map[string]machine.UnitState
	asked []string
	hangs bool
	err   error
}

func (f *fake) Units(ctx context.Context, names []string) (map[string]machine.UnitState, error) {
	if f.hangs {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	all := map[string]machine.UnitState{}
	for _, n := range names {
		f.asked = append(f.asked, n)
		st, known := f.units[n]
		if !known {
			st.Load = "not-found"
		}
		st.Name = n
		all[n] = st
	}
	return all, f.err
}

func (f *fake) Job(_ context.Context, verb string, names []string) map[string]error {
	errs := map[string]error{}
	for _, n := range names {
		f.asked = append(f.asked, verb+" "+n)
		if f.err != nil {
			errs[n] = f.err
		}
	}
	return errs
}

func (f *fake) Reload(ctx context.Context) error {
	f.asked = append(f.asked, "reload")
	if f.hangs {
		<-ctx.Done()
		return ctx.Err()
	}
	return f.err
}

// users are systemds of users by name; one that is nil can be started.
type users struct {
	of    map[string]*fake
	ended []string
	err   error
}

func (u *users) Open(_ context.Context, user string, start bool) (machine.Systemd, error) {
	if u.err != nil {
		return nil, u.err
	}
	if u.of[user] == nil && start {
		u.of[user] = &fake{}
	}
	if f := u.of[user]; f != nil {
		return f, nil
	}
	return nil, nil
}

func (u *users) End(_ context.Context, user string) error {
	u.ended = append(u.ended, user)
	return nil
}

func (u *users) Close() error { return nil }

func TestUnitsByUser(t *testing.T) {
	host := &fake{units: map[string]machine.UnitState{"web.service": {Load: "loaded", Active: "active"}}}
	app := &fake{units: map[string]machine.UnitState{"web.service": {Load: "loaded", Active: "failed", Before: []string{"b.service"}, NeededBy: []string{"default.target"}, TriggeredBy: []string{"web.socket"}}}}
	s := usersystemd.New(host, &users{of: map[string]*fake{"app": app}})
	states, err := s.Units(t.Context(), []string{"web.service", "app/web.service", "nobody/web.service"})
	if err != nil {
		t.Fatal(err)
	}

	if st := states["web.service"]; st.Active != "active" || st.Name != "web.service" {
		t.Errorf("the host's is %+v", st)
	}
	st := states["app/web.service"]
	if st.Active != "failed" || st.Name != "app/web.service" {
		t.Errorf("the user's is %+v", st)
	}
	if !slices.Equal(st.Before, []string{"app/b.service"}) || !slices.Equal(st.NeededBy, []string{"app/default.target"}) || !slices.Equal(st.TriggeredBy, []string{"app/web.socket"}) {
		t.Errorf("the user's names others as %q, %q, %q: those are the host's", st.Before, st.NeededBy, st.TriggeredBy)
	}
	if st := states["nobody/web.service"]; st.Exists() || st.Running() {
		t.Errorf("one of a systemd that does not run is %+v", st)
	}
	if !slices.Equal(host.asked, []string{"web.service"}) || !slices.Equal(app.asked, []string{"web.service"}) {
		t.Errorf("the host was asked about %q, the user's about %q", host.asked, app.asked)
	}
}

// A user's systemd that does not answer, or can't be reached, keeps nobody from hearing of the others.
func TestUserThatDoesNotAnswer(t *testing.T) {
	for name, us := range map[string]*users{
		"hangs":   {of: map[string]*fake{"app": {hangs: true}}},
		"refuses": {err: errors.New("somebody else listens there")},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				host := &fake{units: map[string]machine.UnitState{"a.service": {Load: "loaded", Active: "active"}}}
				s := usersystemd.New(host, us)
				states, err := s.Units(t.Context(), []string{"a.service", "app/web.service"})
				if err != nil || !states["a.service"].Running() {
					t.Fatalf("the host's unit is %+v, %v", states["a.service"], err)
				}
				if st := states["app/web.service"]; st.Active != "failed" || st.Result != usersystemd.Unreachable {
					t.Errorf("the user's unit is %+v, want failed as unreachable", st)
				}

				err = s.Reload(t.Context())
				if err == nil || !usersystemd.IsOfUsers(err) || !slices.Contains(host.asked, "reload") {
					t.Errorf("reload gives %v after %q; want the error of the user alone", err, host.asked)
				}
			})
		})
	}
}

func TestIsOfUsers(t *testing.T) {
	of := &usersystemd.Error{User: "app", Err: errors.New("x")}
	for _, c := range []struct {
		err  error
		want bool
	}{{of, true}, {errors.Join(of, of), true}, {errors.Join(of, errors.New("y")), false}, {errors.New("y"), false}} {
		if got := usersystemd.IsOfUsers(c.err); got != c.want {
			t.Errorf("%q: %v", c.err, got)
		}
	}
}

// A start starts the user's systemd, a stop does not; what fails is told by the names that were asked for.
func TestJobsByUser(t *testing.T) {
	us := &users{of: map[string]*fake{}}
	host := &fake{}
	s := usersystemd.New(host, us)
	if errs := s.Job(t.Context(), "stop", []string{"app/web.service"}); len(errs) > 0 || us.of["app"] != nil {
		t.Errorf("a stop gives %v, and started the user's systemd: %v", errs, us.of["app"] != nil)
	}
	if errs := s.Job(t.Context(), "start", []string{"a.service", "app/web.service"}); len(errs) > 0 {
		t.Fatal(errs)
	}
	if !slices.Equal(host.asked, []string{"start a.service"}) || us.of["app"] == nil || !slices.Equal(us.of["app"].asked, []string{"start web.service"}) {
		t.Errorf("the host was asked %q", host.asked)
	}

	us.of["app"].err = errors.New("no")
	errs := s.Job(t.Context(), "restart", []string{"app/web.service", "b.service"})
	if got := slices.Collect(maps.Keys(errs)); !slices.Equal(got, []string{"app/web.service"}) {
		t.Errorf("failed are %q", got)
	}
}

// Those are reloaded whose units were asked about, and ended first if they linger no more.
func TestReloadOfUsers(t *testing.T) {
	us := &users{of: map[string]*fake{"app": {}, "other": {}}}
	s := usersystemd.New(&fake{}, us)
	if _, err := s.Units(t.Context(), []string{"app/web.service"}); err != nil {
		t.Fatal(err)
	}
	if err := s.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(us.of["app"].asked, "reload") || len(us.of["other"].asked) > 0 || !slices.Equal(us.ended, []string{"app"}) {
		t.Errorf("app was asked %q, other %q; ended %q", us.of["app"].asked, us.of["other"].asked, us.ended)
	}
}
