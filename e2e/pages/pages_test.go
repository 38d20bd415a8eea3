//go:build e2e

// Package pages_test looks at the pages of the demo's fleet with a real browser: Debian's Chromium, spoken to over its
// DevTools protocol. It needs no host of the rig.
package pages_test

import (
	"bufio"
	"context"
	_ "embed"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

//go:embed testdata/axe.min.js
var axe string

var pictures = flag.String("pictures", "", "folder for pictures of all pages; none are made without it")

var bin string

func TestMain(m *testing.M) {
	flag.Parse()
	dir, err := os.MkdirTemp("", "bellhop-pages-")
	if err != nil {
		panic(err)
	}
	bin = filepath.Join(dir, "bellhop")
	if out, err := exec.Command("go", "build", "-o", bin, "../../cmd/bellhop").CombinedOutput(); err != nil {
		fmt.Fprintln(os.Stderr, string(out), err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// A fleet is the demo, which waits to be looked at.
type fleet struct {
	entry string // the address with the token
	base  string
	state string // its state directory
}

var address = regexp.MustCompile(`http://127\.0\.0\.1:\d+/\?token=\w+`)

func startFleet(t *testing.T) fleet {
	t.Helper()
	tmp := t.TempDir()
	cmd := exec.Command(bin, "demo", "--page")
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGINT)
		if err := cmd.Wait(); err != nil && !strings.Contains(err.Error(), "130") {
			t.Errorf("the demo ends as %v", err)
		}
	})

	var told strings.Builder
	for lines := bufio.NewScanner(out); lines.Scan(); {
		told.WriteString(lines.Text() + "\n")
		if entry := address.FindString(lines.Text()); entry != "" {
			dirs, err := filepath.Glob(tmp + "/bellhop-demo-*/state")
			if err != nil || len(dirs) != 1 {
				t.Fatal(dirs, err)
			}
			base, _, _ := strings.Cut(entry, "/?")
			return fleet{entry: entry, base: base, state: dirs[0]}
		}
	}
	t.Fatalf("the demo has no page:\n%s", told.String())
	return fleet{}
}

// A browser is one tab of Chromium, and what it complained of.
type browser struct {
	ctx context.Context

	mu         sync.Mutex
	complaints []string
}

func openBrowser(t *testing.T) *browser {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(t.TempDir()))
	ctx, stop := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(stop)
	ctx, stop = chromedp.NewContext(ctx)
	t.Cleanup(stop)
	b := &browser{ctx: ctx}
	b.run(t, call(log.Enable, cdp.Empty{}), call(runtime.Enable, cdp.Empty{}))
	if err := chromedp.Listen(ctx, b.hear); err != nil {
		t.Fatal(err)
	}
	return b
}

// hear keeps all that the console shows as wrong: a violation of the content security policy among it.
func (b *browser) hear(event any) {
	var text string
	switch e := event.(type) {
	case *log.EventEntryAdded:
		text = fmt.Sprintf("%s: %s %s", e.Entry.Source, e.Entry.Text, e.Entry.URL)
	case *runtime.EventConsoleAPICalled:
		var args []string
		for _, a := range e.Args {
			args = append(args, string(a.Value)+a.Description)
		}
		text = "console: " + strings.Join(args, " ")
	case *runtime.EventExceptionThrown:
		text = "exception: " + e.ExceptionDetails.Text
	default:
		return
	}

	b.mu.Lock()
	defer b.mu.Unlock()
	b.complaints = append(b.complaints, text)
}

// call is one command of the DevTools protocol.
func call[P, R any](c cdp.Command[P, R], params P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, c, params)
		return err
	})
}

func (b *browser) run(t *testing.T, actions ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	if err := chromedp.Do(b.ctx, actions...); err != nil {
		t.Fatal(err)
	}
}

// eval is the value of js, which may be a promise.
func eval[T any](t *testing.T, b *browser, js string) T {
	t.Helper()
	isPromise := true
	v, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](js, func(p *runtime.EvaluateParams) { p.AwaitPromise = &isPromise }))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// wait waits until js is true.
func (b *browser) wait(t *testing.T, what, js string) {
	t.Helper()
	if _, err := chromedp.Run(b.ctx, chromedp.Poll[bool](js, chromedp.WithPollingTimeout(2*time.Minute))); err != nil {
		t.Fatalf("%s: %v, the page is\n%s", what, err, eval[string](t, b, "document.body.innerText"))
	}
}

// look sets how the next page is looked at.
func (b *browser) look(t *testing.T, theme, medium string, width int64) {
	t.Helper()
	b.run(t, call(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Media: medium, Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: theme}}}),
		call(emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: 800, DeviceScaleFactor: 1, Mobile: width < 500}))
}

// live is true on a page that hears of changes.
const live = `document.getElementById("live").textContent.startsWith("Live")`

// paths are one page of each kind, each with a state that has much to say.
func (f fleet) paths(t *testing.T, b *browser) map[string]string {
	t.Helper()
	b.run(t, chromedp.Navigate(f.entry))
	run := eval[string](t, b, `document.querySelector("ol.runs a").getAttribute("href")`)
	return map[string]string{"fleet": "/", "host": "/hosts/chrysalis", "edited": "/hosts/lufta", "drift": "/hosts/lufta/drift", "run": run, "services": "/services", "deliveries": "/deliveries"}
}

// Each page, in both themes, on a screen and on a phone: nothing that axe-core calls a barrier, nothing to scroll sideways,
// nothing in the console.
func TestPagesInABrowser(t *testing.T) {
	f, b := startFleet(t), openBrowser(t)
	for name, path := range f.paths(t, b) {
		for _, theme := range []string{"light", "dark"} {
			for _, width := range []int64{1280, 360} {
				view := fmt.Sprintf("%s-%s-%d", name, theme, width)
				b.look(t, theme, "", width)
				b.run(t, chromedp.Navigate(f.base+path))
				if name != "drift" {
					b.wait(t, view, live)
				}
				if name == "run" {
					b.waitForPlan(t)
				}
				b.checkBarriers(t, view)
				b.checkWidth(t, view)
				b.picture(t, view)
			}
		}
		b.look(t, "light", "print", 718) // A4 less its margins
		b.checkWidth(t, name+" on paper")
		b.picture(t, name+"-paper")
	}

	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.complaints {
		t.Errorf("the console says: %s", c)
	}
}

// waitForPlan waits until the page of a run has its plan, which is written after the push; the page hears of it.
func (b *browser) waitForPlan(t *testing.T) {
	t.Helper()
	b.wait(t, "the plan of the run", `[...document.querySelectorAll("pre")].some(e => e.innerText.includes("  restart withinbot.service"))`)
}

// checkBarriers runs axe-core, all of its rules.
func (b *browser) checkBarriers(t *testing.T, view string) {
	t.Helper()
	eval[chromedp.Void](t, b, axe+";0")
	for _, v := range eval[[]string](t, b, `axe.run().then(r => r.violations.map(v => [v.id, v.help, ...v.nodes.map(n => n.html + " " + n.failureSummary)].join("\n")))`) {
		t.Errorf("%s: axe-core: %v", view, v)
	}
}

// checkWidth says what is wider than the page.
func (b *browser) checkWidth(t *testing.T, view string) {
	t.Helper()
	wide := eval[[]string](t, b, `[...document.querySelectorAll("html, body, body *")]
		.filter(e => !e.closest("pre > *, thead, .skip"))
		.filter(e => { const box = e.getBoundingClientRect(), isBlock = e.matches("html, body, main, table, section, dl, ol, p, h1");
			return isBlock && e.scrollWidth > e.clientWidth + 1 || box.right > document.documentElement.clientWidth + 1 || box.left < -1 })
		.map(e => e.tagName + " " + e.className + " " + e.scrollWidth + " of " + e.clientWidth)`)
	if len(wide) > 0 {
		t.Errorf("%s scrolls sideways: %s", view, strings.Join(wide, "; "))
	}
}

func (b *browser) picture(t *testing.T, view string) {
	t.Helper()
	if *pictures == "" {
		return
	}
	png, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(*pictures, view+".png"), png, 0o644); err != nil {
		t.Fatal(err)
	}
}

// A page shows what happens without being loaded again.
func TestLive(t *testing.T) {
	f, b := startFleet(t), openBrowser(t)
	b.run(t, chromedp.Navigate(f.entry))
	b.wait(t, "the page is live", live)
	eval[bool](t, b, `window.stillTheSame = true`)

	b.pause(t, f, "somebody moves house")
	if !eval[bool](t, b, `window.stillTheSame === true`) {
		t.Error("the page was loaded again")
	}
}

// pause pauses runs, and waits until the page has it.
func (b *browser) pause(t *testing.T, f fleet, why string) {
	t.Helper()
	if out, err := exec.Command(bin, "pause", "--state-dir", f.state, "--reason", why).CombinedOutput(); err != nil {
		t.Fatal(string(out), err)
	}
	b.wait(t, "the pause shows", fmt.Sprintf(`document.body.innerText.includes(%q)`, why))
}

// Each page says the same without scripts.
func TestPagesWithoutScripts(t *testing.T) {
	f, b := startFleet(t), openBrowser(t)
	const text = `document.querySelector("main").innerText.replace(/(just now|\d+ (min|h) ago|As of .*)/g, "")`
	for name, path := range f.paths(t, b) {
		b.run(t, chromedp.Navigate(f.base+path))
		if name == "run" {
			b.waitForPlan(t)
		}
		if name != "drift" {
			b.wait(t, name+" is live", live)
		}
		with := eval[string](t, b, text)

		b.run(t, scripts(false), chromedp.Navigate(f.base+path), scripts(true))
		if without := eval[string](t, b, text); with != without || with == "" {
			t.Errorf("%s without scripts:\n%s\nwith scripts:\n%s", name, without, with)
		}
	}
}

// The doctor finds nothing wrong with the demo's deployer: its forge takes all that is sent.
func TestDoctorOfTheDemo(t *testing.T) {
	f := startFleet(t)
	out, _ := exec.Command(bin, "doctor", "--state-dir", f.state).CombinedOutput() // it fails where something is to be done
	isAsked := strings.Contains(string(out), "\nok  forge:") || strings.Contains(string(out), "\nok  webhook:")
	if strings.Contains(string(out), "\nbad ") || !isAsked {
		t.Errorf("bellhop doctor says\n%s", out)
	}
}

// scripts lets the next page run its scripts, or not.
func scripts(run bool) chromedp.Action[chromedp.Void] {
	return call(emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !run})
}
