package page

import (
	"fmt"
	"net/http"

	"bellhop/internal/bundle"
	"bellhop/internal/history"
	"bellhop/internal/history/looks"
	"bellhop/internal/history/results"
)

type hostBody struct {
	Host        history.HostStatus
	Command     string
	Keys        []string
	Services    []hostService
	Units       []unitRow // that are of no service
	Drift       []looks.Drift
	MoreDrift   int
	Bars        bars
	Runs        []history.Run
	Generations []history.Generation
	Evidence    []results.Evidence // of the run that its state tells of
}

func (p *Page) host(w http.ResponseWriter, r *http.Request) {
	s, f, ok := p.begin(w, r, r.PathValue("name"), "/")
	if !ok {
		return
	}

	h := hostIn(s, f.Title)
	if h == nil {
		noHost(w, f.Title)
		return
	}
	runs, err := p.from.Runs(r.Context(), barRuns, h.Name)
	if err != nil {
		p.fail(w, err)
		return
	}

	held, _, err := p.from.Manifest(h.Name)
	if err != nil {
		p.fail(w, err)
		return
	}

	body := hostBody{Host: *h, Command: command(*h), Keys: keysOf(held), Bars: barsOf(runs.Runs)[h.Name], Runs: runs.Runs, Generations: p.from.Generations(h.Name)}
	look, _ := p.from.Look(h.Name)
	body.Drift, body.MoreDrift = look.Drift, look.Drifted-len(look.Drift)
	body.Services, body.Units = hostServices(h.Services, held, look)
	body.addEvidence()
	f.Body = body
	p.show(w, r, "host", f)
}

// keysOf names the keys of a manifest, which may be nil.
func keysOf(m *bundle.Manifest) (names []string) {
	if m == nil {
		return nil
	}
	for _, k := range m.Keys {
		names = append(names, k.Name)
	}
	return names
}

func hostIn(s history.Status, name string) *history.HostStatus {
	for i := range s.Hosts {
		if s.Hosts[i].Name == name {
			return &s.Hosts[i]
		}
	}
	return nil
}

func noHost(w http.ResponseWriter, name string) {
	http.Error(w, fmt.Sprintf("no host %q; / lists those that there are", name), http.StatusNotFound)
}

// addEvidence finds what the host saw of the failure that its state tells of.
func (b *hostBody) addEvidence() {
	for _, run := range b.Runs {
		for _, h := range run.Hosts {
			isIt := h.Name == b.Host.Name && b.Host.Run != nil && run.ID == *b.Host.Run
			if isIt {
				b.Evidence = h.Evidence
			}
		}
	}
}

type driftBody struct {
	Host string
	Drift
}

// drift asks the host while the browser waits. It costs a session, so few are asked at once, and no page of another site
// can have a browser ask.
func (p *Page) drift(w http.ResponseWriter, r *http.Request) {
	if site := r.Header.Get("Sec-Fetch-Site"); site == "cross-site" || site == "same-site" {
		http.Error(w, "open this page from the page of its host", http.StatusForbidden)
		return
	}

	s, f, ok := p.begin(w, r, r.PathValue("name"), "/")
	if !ok {
		return
	}

	name := f.Title
	if hostIn(s, name) == nil {
		noHost(w, name)
		return
	}

	select {
	case p.asking <- struct{}{}:
		defer func() { <-p.asking }()
	default:
		w.Header().Set("Retry-After", "5")
		http.Error(w, "other hosts are being asked; reload in a moment, or bellhop drift "+name+" --diff", http.StatusServiceUnavailable)
		return
	}

	found, err := p.from.Drift(r.Context(), name)
	if err != nil {
		p.fail(w, err)
		return
	}

	f.Title, f.Still, f.Body = "drift of "+name, true, driftBody{name, found}
	p.show(w, r, "drift", f)
}
