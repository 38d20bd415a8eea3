//go:build e2e

package pages_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
)

// reachable are all that Tab is to reach, in the order of the page.
const reachable = `[...document.querySelectorAll("a[href], button, summary, input, select, textarea, [tabindex='0']")].filter(e => e.getClientRects().length > 0)`

// Every page can be walked by the keyboard: Tab reaches each link, command and box that scrolls in the order of the page, each
// shows that it has the focus, nothing keeps it, and the link before all others leads past the menu.
func TestPagesByKeyboard(t *testing.T) {
	f, b := startFleet(t), openBrowser(t)
	for name, path := range f.paths(t, b) {
		for _, width := range []int64{1280, 360} {
			view := fmt.Sprintf("%s at %d px", name, width)
			b.look(t, "light", "", width)
			b.run(t, chromedp.Navigate(f.base+path))
			if name == "run" {
				b.waitForPlan(t)
			}
			if name != "drift" {
				b.wait(t, view+" is live", live)
			}
			b.walk(t, view)
			b.skip(t, view)
		}
	}
}

// walk goes through a page by Tab, and a part of the way back.
func (b *browser) walk(t *testing.T, view string) {
	t.Helper()
	all := eval[[]string](t, b, reachable+`.map(e => e.tagName + " " + e.textContent.trim().slice(0, 40))`)
	if len(all) < 4 { // the link past the menu, and the menu
		t.Fatalf("%s has nothing to reach: %v", view, all)
	}

	for i, want := range all {
		b.tab(t, false)
		b.checkFocus(t, view, i, want)
	}
	b.tab(t, false)
	if at := b.focused(t); at == len(all)-1 {
		t.Errorf("%s: %s keeps the focus", view, all[at])
	}

	eval[chromedp.Void](t, b, reachable+`.at(-1).focus()`)
	for i := len(all) - 2; i >= max(0, len(all)-4); i-- {
		b.tab(t, true)
		if at := b.focused(t); at != i {
			t.Errorf("%s: back from %s leads to number %d", view, all[i+1], at)
		}
	}
}

func (b *browser) tab(t *testing.T, back bool) {
	t.Helper()
	if back {
		b.run(t, chromedp.KeyEvent("\t", chromedp.KeyModifiers(8))) // with Shift
		return
	}
	b.run(t, chromedp.KeyEvent("\t"))
}

// press presses a key as a keyboard does: what a page keeps from being done at the press of a key is not done.
func (b *browser) press(t *testing.T, key, text string, number int64) {
	t.Helper()
	down := input.DispatchKeyEventParams{Type: input.DispatchKeyEventTypeKeyDown, Key: key, Text: text, WindowsVirtualKeyCode: number}
	up := input.DispatchKeyEventParams{Type: input.DispatchKeyEventTypeKeyUp, Key: key, WindowsVirtualKeyCode: number}
	b.run(t, call(input.DispatchKeyEvent, down), call(input.DispatchKeyEvent, up))
}

// focused is the number of what has the focus; -1: nothing of the page.
func (b *browser) focused(t *testing.T) int {
	t.Helper()
	return eval[int](t, b, reachable+`.indexOf(document.activeElement)`)
}

// checkFocus checks that number i has the focus, that it shows, and that it is in sight.
func (b *browser) checkFocus(t *testing.T, view string, i int, want string) {
	t.Helper()
	if at := b.focused(t); at != i {
		t.Fatalf("%s: Tab leads to number %d, want %d: %s", view, at, i, want)
	}

	wrong := eval[string](t, b, `(() => {
		const e = document.activeElement, s = getComputedStyle(e), box = e.getBoundingClientRect();
		if (s.outlineStyle === "none" || parseFloat(s.outlineWidth) < 2) return "does not show the focus";
		if (box.bottom < 0 || box.top > innerHeight || box.right < 0 || box.left > innerWidth) return "is out of sight";
		return "";
	})()`)
	if wrong != "" {
		t.Errorf("%s: %s %s", view, want, wrong)
	}
}

// skip takes the link past the menu.
func (b *browser) skip(t *testing.T, view string) {
	t.Helper()
	eval[chromedp.Void](t, b, reachable+`[0].focus()`)
	b.press(t, "Enter", "\r", 13)
	b.tab(t, false)
	isPast := eval[bool](t, b, `(() => {
		const e = document.activeElement, main = document.getElementById("main");
		return main.contains(e) || !!(main.compareDocumentPosition(e) & Node.DOCUMENT_POSITION_FOLLOWING) || e === document.body;
	})()`)
	if !isPast {
		t.Errorf("%s: the link past the menu leads to it", view)
	}
}

// A command is copied by Enter, by the space bar and by a click, also after the page has changed by itself.
func TestCommandsAreCopied(t *testing.T) {
	f, b := startFleet(t), openBrowser(t)
	b.run(t, chromedp.Navigate(f.entry))
	b.wait(t, "the page is live", live)
	eval[chromedp.Void](t, b, `window.copied = []; document.addEventListener("copy", () => window.copied.push(getSelection().toString().trim()))`)

	b.pause(t, f, "somebody moves house")
	commands := eval[[]string](t, b, `[...document.querySelectorAll("code.type")].map(e => e.textContent)`)
	if len(commands) == 0 || !slices.Contains(commands, "bellhop resume") {
		t.Fatalf("the page has the commands %q", commands)
	}
	const command = `[...document.querySelectorAll("code.type")].find(e => e.textContent === "bellhop resume")`
	eval[chromedp.Void](t, b, command+`.focus()`)
	b.pause(t, f, "the boxes are not unpacked")
	if !eval[bool](t, b, `document.activeElement === `+command) {
		t.Error("the command lost the focus when the page changed")
	}

	for _, what := range []string{"Enter", "the space bar", "a click"} {
		eval[chromedp.Void](t, b, `window.copied = []; getSelection().removeAllRanges();`+command+`.focus()`)
		before := eval[int](t, b, `Math.round(scrollY)`)
		switch what {
		case "Enter":
			b.press(t, "Enter", "\r", 13)
		case "the space bar":
			b.press(t, " ", " ", 32)
		default:
			b.run(t, chromedp.Click(".note.wait code.type", chromedp.NodeVisible))
		}
		if after := eval[int](t, b, `Math.round(scrollY)`); after != before && what != "a click" {
			t.Errorf("%s scrolled the page from %d to %d px", what, before, after)
		}
		if got := eval[[]string](t, b, `window.copied`); len(got) != 1 || got[0] != "bellhop resume" {
			t.Errorf("%s copied %q", what, got)
		}
		if !eval[bool](t, b, command+`.getAttribute("aria-description") === "copied"`) {
			t.Errorf("%s: the page does not say that the command was copied", what)
		}
	}
}
