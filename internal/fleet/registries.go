package fleet

import (
	"reflect"

	"bellhop/internal/fleet/inventory"
	"bellhop/internal/fleet/render"
	"bellhop/internal/fleet/service"
	"bellhop/internal/fleet/tree"
)

// logins is what registries: brings to each host with containers: the state of the last fleet where nothing of
// it differs, so that the hosts keep their bundles. It is nil where bellhop.yaml has no registries.
func (l *Loader) logins(t *tree.Tree, cfg *inventory.Inventory) (*serviceState, error) {
	if len(cfg.Registries) == 0 {
		return nil, nil
	}
	s := service.Logins(cfg.Logins())
	now, err := l.sources(t, s)
	if err != nil {
		return nil, err
	}
	if last := l.cache.last; last != nil && last.logins != nil {
		was := last.logins
		if was.SameLogins(s) && reflect.DeepEqual(was.sources, now.sources) {
			return was, nil
		}
	}
	now.renderer = render.NewRenderer(s)
	return now, nil
}

// addLogins adds the logins at registries to a host that pulls images.
func (a *assembly) addLogins(i int, s *slot) {
	if a.logins == nil {
		return
	}
	for _, r := range s.renders {
		if r.PullsImages() {
			s.states = append(s.states, a.logins)
			s.renders = append(s.renders, a.logins.renderer.Render(nil, "", a.viewFor(i), a.fleetView, a.loader.budget))
			return
		}
	}
}
