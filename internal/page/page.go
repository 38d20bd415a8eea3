// Package page shows a fleet in a browser: what each host is at, what came of each run, and why nothing happened.
//
// Its promise: a page is whole without JavaScript, at 360 px and on paper; it changes nothing, and beside each state that
// wants somebody to act stands the command to type. A state is a word and a shape, never a colour alone. All that a
// page says comes through html/template, so that nothing a host or the author of a commit wrote becomes markup.
package page

import (
	"bytes"
	"cmp"
	"context"
	"embed"
	"errors"
	"html/template"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"bellhop/internal/bundle"
	"bellhop/internal/history"
	"bellhop/internal/history/deliveries"
	"bellhop/internal/history/looks"
)

// Sources are where pages come from.
type Sources struct {
	Status     func(ctx context.Context) (history.Status, error)
	Sentence   func(history.Status) string // the fleet in one sentence
	Runs       func(ctx context.Context, limit int, hosts ...string) (history.History, error)
	Outcomes   func(ctx context.Context, limit int) ([]history.Run, error) // the newest runs, as history.DB.RunOutcomes has them
	Run        func(ctx context.Context, id string) (*history.Run, error)  // history.ErrNoRun: there is none
	Deliveries func(ctx context.Context, limit int) ([]deliveries.Delivery, error)
	// Events are what happened in a run so far, the oldest first; none of a run that is too old to be followed.
	Events func(run string) []Event
	// Plan is the plan of a run as people read it; "" where none is kept.
	Plan func(run string) string
	// Manifest is what a host was given last, and its digest; nil where nothing is known.
	Manifest func(host string) (*bundle.Manifest, string, error)
	// Look is what the last look at a host found; false: there was none.
	Look func(host string) (looks.Look, bool)
	// Drift asks a host now what differs there.
	Drift func(ctx context.Context, host string) (Drift, error)
	// Generations are those of a host that can be restored, the newest first.
	Generations func(host string) []history.Generation
	Log         *slog.Logger
}

// An Event is one thing that happened in a run.
type Event struct {
	After string // the begin of the run
	Host  string // "": the run itself
	Step  string
	Text  string
}

// A Drift is what differs on a host from what was deployed there.
type Drift struct {
	Words       string // how the look went, and what it found, in a few words
	Differences []Difference
}

// A Difference is one thing that differs. Diff is a unified diff, or Why says why there is none.
type Difference struct{ Kind, Name, What, Diff, Why string }

//go:embed files
var files embed.FS

// A Page answers for the pages of a fleet.
type Page struct {
	from    Sources
	pages   map[string]*template.Template
	assets  map[string]asset
	changes *changes
	asking  chan struct{} // has a place for each host that is asked for its drift
	mux     *http.ServeMux
}

// Limits of what one page lists.
const (
	barRuns       = 30  // runs as bars beside a host, and in the list of a host
	newestRuns    = 10  // runs below the fleet
	mostAsked     = 2   // hosts that are asked for their drift at once
	deliveryLimit = 100 // deliveries in a list
)

// New makes the pages.
func New(from Sources) *Page {
	p := &Page{from: from, pages: map[string]*template.Template{}, assets: readAssets(), changes: newChanges(), asking: make(chan struct{}, mostAsked), mux: http.NewServeMux()}
	for _, name := range []string{"fleet", "host", "drift", "run", "services", "deliveries"} {
		t := template.New(name + ".html").Funcs(funcs).Funcs(template.FuncMap{"asset": p.assetPath})
		p.pages[name] = template.Must(t.ParseFS(files, "files/frame.html", "files/"+name+".html"))
	}

	p.mux.HandleFunc("GET /{$}", p.fleet)
	p.mux.HandleFunc("GET /hosts/{name}", p.host)
	p.mux.HandleFunc("GET /hosts/{name}/drift", p.drift)
	p.mux.HandleFunc("GET /runs/{id}", p.run)
	p.mux.HandleFunc("GET /services", p.services)
	p.mux.HandleFunc("GET /deliveries", p.deliveries)
	p.mux.HandleFunc("GET /assets/{name}", p.asset)
	p.mux.HandleFunc("GET /v1/events", p.events)
	return p
}

// ServeHTTP answers a request whose sender may see all.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) { p.mux.ServeHTTP(w, r) }

// A frame is what every page has.
type frame struct {
	Title   string
	Network string
	Now     time.Time
	Here    string // the path of the page's entry in the menu
	Path    string // of the page itself
	Seen    string // the newest change that the page has
	Still   bool   // the page is not live: to make it costs a session
	Body    any
}

// show writes a page, whole or not at all.
func (p *Page) show(w http.ResponseWriter, r *http.Request, name string, f frame) {
	f.Now = time.Now()
	var b bytes.Buffer
	if err := p.pages[name].ExecuteTemplate(&b, "frame", f); err != nil {
		p.fail(w, err)
		return
	}
	send(w, r, "text/html; charset=utf-8", b.Bytes(), nil)
}

func (p *Page) fail(w http.ResponseWriter, err error) {
	p.from.Log.Error("page", "err", err)
	http.Error(w, "this page can't be made now; the server's log says why", http.StatusInternalServerError)
}

// begin reads the state of the fleet, of which every page tells something.
func (p *Page) begin(w http.ResponseWriter, r *http.Request, title, here string) (history.Status, frame, bool) {
	seen, _ := p.changes.now() // before anything is read: what changes meanwhile is told
	s, err := p.from.Status(r.Context())
	if err != nil {
		p.fail(w, err)
		return s, frame{}, false
	}

	f := frame{Title: title, Network: "bellhop", Here: here, Path: r.URL.EscapedPath(), Seen: seen}
	if s.Network != nil {
		f.Network = *s.Network
	}
	return s, f, true
}

type fleetBody struct {
	Status   history.Status
	Sentence string
	Rows     []fleetRow
	Runs     []history.Run
}

func (p *Page) fleet(w http.ResponseWriter, r *http.Request) {
	s, f, ok := p.begin(w, r, "", "/")
	if !ok {
		return
	}
	runs, err := p.from.Outcomes(r.Context(), barRuns)
	if err != nil {
		p.fail(w, err)
		return
	}

	failing := map[string]bool{}
	for _, h := range s.Failing() {
		failing[h.Name] = true
	}
	slices.SortStableFunc(s.Hosts, func(a, b history.HostStatus) int { return cmp.Compare(rank(failing[a.Name]), rank(failing[b.Name])) })

	all, now := barsOf(runs), time.Now()
	rows := make([]fleetRow, len(s.Hosts))
	for i := range s.Hosts {
		rows[i] = rowOf(now, &s.Hosts[i], all[s.Hosts[i].Name])
	}

	f.Title = f.Network
	f.Body = fleetBody{Status: s, Sentence: p.from.Sentence(s), Rows: rows, Runs: runs[:min(newestRuns, len(runs))]}
	p.show(w, r, "fleet", f)
}

// rank puts hosts first that somebody should look at.
func rank(isFailing bool) int {
	if isFailing {
		return 0
	}
	return 1
}

type runBody struct {
	Run    *history.Run
	Plan   string
	Events []Event
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
	f.Title, f.Body = "run "+run.ID, runBody{Run: run, Plan: p.from.Plan(run.ID), Events: p.from.Events(run.ID)}
	p.show(w, r, "run", f)
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
	p.show(w, r, "deliveries", f)
}
