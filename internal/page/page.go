// Package page shows a fleet in a browser: what each host is at, what came of each run, and why nothing happened.
//
// Its promise: a page is whole without JavaScript, at 360 px and on paper; it changes nothing, and beside each state that
// wants somebody to act stands the command to type. A state is a word and a shape, never a colour alone. All that a
// page says comes through html/template, so that nothing a host or the author of a commit wrote becomes markup.
package page

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"time"

	"bellhop/internal/history"
)

// Sources are where pages come from.
type Sources struct {
	Status     func(ctx context.Context) (history.Status, error)
	Sentence   func(history.Status) string // the fleet in one sentence
	Runs       func(ctx context.Context, limit int, hosts ...string) (history.History, error)
	Run        func(ctx context.Context, id string) (*history.Run, error) // history.ErrNoRun: there is none
	Deliveries func(ctx context.Context, limit int) ([]history.Delivery, error)
	// Generations are those of a host that can be restored, the newest last.
	Generations func(host string) []history.Generation
	Log         *slog.Logger
}

//go:embed files
var files embed.FS

// A Page answers for the pages of a fleet.
type Page struct {
	from  Sources
	pages map[string]*template.Template
	style []byte
	mux   *http.ServeMux
}

// Limits of what one page lists.
const (
	barRuns       = 30  // runs as bars beside a host
	listedRuns    = 50  // runs in a list
	deliveryLimit = 100 // deliveries in a list
)

// New makes the pages.
func New(from Sources) *Page {
	p := &Page{from: from, pages: map[string]*template.Template{}, mux: http.NewServeMux()}
	p.style, _ = files.ReadFile("files/style.css") // it is part of the program

	for _, name := range []string{"fleet", "host", "run", "services", "deliveries"} {
		t := template.New(name + ".html").Funcs(funcs)
		p.pages[name] = template.Must(t.ParseFS(files, "files/frame.html", "files/"+name+".html"))
	}

	p.mux.HandleFunc("GET /{$}", p.fleet)
	p.mux.HandleFunc("GET /hosts/{name}", p.host)
	p.mux.HandleFunc("GET /runs/{id}", p.run)
	p.mux.HandleFunc("GET /services", p.services)
	p.mux.HandleFunc("GET /deliveries", p.deliveries)
	p.mux.HandleFunc("GET /style.css", p.css)
	return p
}

// ServeHTTP answers a request whose sender may see all.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) { p.mux.ServeHTTP(w, r) }

func (p *Page) css(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/css; charset=utf-8")
	_, _ = w.Write(p.style)
}

// A frame is what every page has.
type frame struct {
	Title   string
	Network string
	Now     time.Time
	Here    string // the path of the page's entry in the menu
	Body    any
}

// show writes a page, whole or not at all.
func (p *Page) show(w http.ResponseWriter, name string, f frame) {
	f.Now = time.Now()
	var b bytes.Buffer
	if err := p.pages[name].ExecuteTemplate(&b, "frame", f); err != nil {
		p.fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write(b.Bytes())
}

func (p *Page) fail(w http.ResponseWriter, err error) {
	p.from.Log.Error("page", "err", err)
	http.Error(w, "this page can't be made now; the server's log says why", http.StatusInternalServerError)
}

// begin reads the state of the fleet, of which every page tells something.
func (p *Page) begin(w http.ResponseWriter, r *http.Request, title, here string) (history.Status, frame, bool) {
	s, err := p.from.Status(r.Context())
	if err != nil {
		p.fail(w, err)
		return s, frame{}, false
	}

	f := frame{Title: title, Network: "bellhop", Here: here}
	if s.Network != nil {
		f.Network = *s.Network
	}
	return s, f, true
}

type fleetBody struct {
	Status   history.Status
	Sentence string
	Bars     map[string][]bar
	Runs     []history.Run
}

// A bar is one run on one host.
type bar struct {
	Run, Outcome, Words string
}

func (p *Page) fleet(w http.ResponseWriter, r *http.Request) {
	s, f, ok := p.begin(w, r, "", "/")
	if !ok {
		return
	}
	h, err := p.from.Runs(r.Context(), listedRuns)
	if err != nil {
		p.fail(w, err)
		return
	}

	f.Title = f.Network
	f.Body = fleetBody{Status: s, Sentence: p.from.Sentence(s), Bars: barsOf(h.Runs), Runs: h.Runs[:min(10, len(h.Runs))]}
	p.show(w, "fleet", f)
}

// barsOf are the runs of each host, the oldest first.
func barsOf(runs []history.Run) map[string][]bar {
	bars := map[string][]bar{}
	for i := len(runs) - 1; i >= 0; i-- {
		run := runs[i]
		for _, h := range run.Hosts {
			b := bar{Run: run.ID, Outcome: outcomeWord(h.Outcome)}
			b.Words = b.Outcome + ", " + run.StartedAt.UTC().Format("2 Jan 15:04")
			bars[h.Name] = append(bars[h.Name], b)
		}
	}
	for host, all := range bars {
		bars[host] = all[max(0, len(all)-barRuns):]
	}
	return bars
}

type hostBody struct {
	Host        history.HostStatus
	Command     string
	Runs        []history.Run
	Generations []history.Generation
	Evidence    []history.Evidence // of the newest run on the host
	Of          string             // that run
}

func (p *Page) host(w http.ResponseWriter, r *http.Request) {
	s, f, ok := p.begin(w, r, r.PathValue("name"), "/")
	if !ok {
		return
	}

	for _, h := range s.Hosts {
		if h.Name != f.Title {
			continue
		}
		runs, err := p.from.Runs(r.Context(), barRuns, h.Name)
		if err != nil {
			p.fail(w, err)
			return
		}
		body := hostBody{Host: h, Command: command(h), Runs: runs.Runs, Generations: p.from.Generations(h.Name)}
		body.addEvidence()
		f.Body = body
		p.show(w, "host", f)
		return
	}
	http.Error(w, fmt.Sprintf("no host %q; / lists those that there are", f.Title), http.StatusNotFound)
}

// addEvidence finds what the host saw of the failure that its state tells of.
func (b *hostBody) addEvidence() {
	for _, run := range b.Runs {
		for _, h := range run.Hosts {
			isIt := h.Name == b.Host.Name && b.Host.Run != nil && run.ID == *b.Host.Run
			if isIt {
				b.Evidence, b.Of = h.Evidence, run.ID
			}
		}
	}
}

func (p *Page) run(w http.ResponseWriter, r *http.Request) {
	_, f, ok := p.begin(w, r, "run", "/")
	if !ok {
		return
	}

	run, err := p.from.Run(r.Context(), r.PathValue("id"))
	if errors.Is(err, history.ErrNoRun) {
		http.Error(w, "no such run; / lists the newest, bellhop history the others", http.StatusNotFound)
		return
	}
	if err != nil {
		p.fail(w, err)
		return
	}
	f.Title, f.Body = "run "+run.ID, run
	p.show(w, "run", f)
}

type servicesBody struct {
	Hosts    []history.HostStatus
	Services []serviceRow
}

type serviceRow struct {
	Name string
	On   map[string]history.ServiceStatus // by host
}

func (p *Page) services(w http.ResponseWriter, r *http.Request) {
	s, f, ok := p.begin(w, r, "Services", "/services")
	if !ok {
		return
	}
	f.Body = servicesBody{Hosts: s.Hosts, Services: serviceRows(s.Hosts)}
	p.show(w, "services", f)
}

func serviceRows(hosts []history.HostStatus) []serviceRow {
	at := map[string]int{}
	var rows []serviceRow
	for _, h := range hosts {
		for _, s := range h.Services {
			i, known := at[s.Name]
			if !known {
				i = len(rows)
				at[s.Name] = i
				rows = append(rows, serviceRow{s.Name, map[string]history.ServiceStatus{}})
			}
			rows[i].On[h.Name] = s
		}
	}
	sortRows(rows)
	return rows
}

func (p *Page) deliveries(w http.ResponseWriter, r *http.Request) {
	_, f, ok := p.begin(w, r, "Deliveries", "/deliveries")
	if !ok {
		return
	}
	ds, err := p.from.Deliveries(r.Context(), deliveryLimit)
	if err != nil {
		p.fail(w, err)
		return
	}
	f.Body = ds
	p.show(w, "deliveries", f)
}
