package trace

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestMain makes the process that TestKilled kills.
func TestMain(m *testing.M) {
	if path := os.Getenv("TRACE_FOR_EVER"); path != "" {
		f, err := Create(path)
		if err != nil {
			panic(err)
		}
		for i := 0; ; i++ {
			f.Span("run", "step", strings.Repeat("x", i%maxText))()
			if i == 500 {
				fmt.Println("at work")
			}
		}
	}
	os.Exit(m.Run())
}

// read is the trace at path, which must be valid JSON.
func read(t *testing.T, path string) (events []event) {
	t.Helper()
	p, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(p, &events); err != nil {
		t.Fatalf("%s: %v\n%s", path, err, p)
	}
	return events
}

// tell is each span event as TRACK PH NAME TEXT.
func tell(events []event) (lines []string) {
	names := map[int]string{}
	for _, e := range events {
		if e.Name == "thread_name" {
			names[e.Tid] = fmt.Sprint(e.Pid, " ", e.Args["name"])
		}
		if e.Ph != "M" {
			lines = append(lines, strings.TrimSpace(strings.Join([]string{names[e.Tid], e.Ph, e.Name, e.Args["text"]}, " ")))
		}
	}
	return lines
}

func TestSpans(t *testing.T) {
	path := filepath.Join(t.TempDir(), "trace.json")
	f, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	run := f.Span("run", "run", "3f2a1c9 a \x1b[31msubject\n")
	read(t, path) // valid at any moment
	offer := f.Span("lufta", "offer", "")
	f.HostStep("lufta", "begin", "", time.Now().UnixMilli())
	f.HostStep("lufta", "start", "web.service \xff", time.Now().UnixMilli())
	read(t, path)
	offer()
	f.HostEnd("lufta")
	f.HostEnd("lufta")
	f.HostEnd("never heard")
	run()
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	f.Span("run", "late", "")()

	want := "1 run B run 3f2a1c9 a [31msubject\n1 lufta B offer\n2 lufta B begin\n2 lufta E\n2 lufta B start web.service\n1 lufta E\n2 lufta E\n1 run E"
	if got := strings.Join(tell(read(t, path)), "\n"); got != want {
		t.Errorf("trace:\n%s\nwant:\n%s", got, want)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
	}
}

// A nil File does nothing, and costs no memory.
func TestOff(t *testing.T) {
	var f *File
	n := testing.AllocsPerRun(100, func() {
		defer f.Span("run", "sync", "text")()
		f.HostStep("lufta", "begin", "text", 1)
		f.HostEnd("lufta")
	})
	if err := f.Close(); n != 0 || err != nil {
		t.Errorf("%v allocations, Close = %v", n, err)
	}
}

// A host's clock may be an hour off, and step back: its steps lie where they happened, in order.
func TestHostClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "trace.json")
		f, err := Create(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()

		hour := time.Hour.Milliseconds()
		step := func(name string, takes, delay time.Duration, off int64) {
			time.Sleep(takes)
			at := time.Now().UnixMilli() + off
			time.Sleep(delay)
			f.HostStep("lufta", name, "", at)
		}
		step("preflight", 0, 2*time.Millisecond, hour)
		step("files", 100*time.Millisecond, 2*time.Millisecond, hour)
		step("start", 100*time.Millisecond, 70*time.Millisecond, hour)
		step("health", 100*time.Millisecond, time.Millisecond, hour)
		step("back", 100*time.Millisecond, 0, -hour)
		step("absurd", 100*time.Millisecond, 0, -1<<62)

		at := map[string]float64{}
		last := 0.0
		for _, e := range read(t, path) {
			if e.Ph == "B" {
				at[e.Name] = e.Ts / 1000
			}
			if e.Ph != "M" && e.Ts < last {
				t.Errorf("%+v is before what came first", e)
			}
			last = max(last, e.Ts)
		}
		for name, want := range map[string]float64{"preflight": 2, "files": 104, "start": 206, "health": 375} {
			if at[name] != want {
				t.Errorf("%s at %v ms, want %v", name, at[name], want)
			}
		}
	})
}

// Steps that arrive all at once, at the end, lie where they happened once the host named its time.
func TestStepsInABatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "trace.json")
		f, err := Create(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()

		off := -3 * time.Minute.Milliseconds()
		for range 2 { // its clock steps between two runs
			begin := time.Now()
			f.HostClock("lufta", begin.UnixMilli()+off)
			f.HostClock("lufta", 0)
			time.Sleep(time.Second)
			for i := range 5 {
				f.HostStep("lufta", fmt.Sprint("step", i), "", begin.Add(time.Duration(i)*100*time.Millisecond).UnixMilli()+off)
			}
			f.HostEnd("lufta")

			base := begin.Sub(f.began).Seconds() * 1e6
			steps := 0
			for _, e := range read(t, path) {
				if e.Ph == "B" && e.Ts >= base {
					if want := base + float64(steps)*100_000; e.Ts != want {
						t.Errorf("%s at %v µs, want %v", e.Name, e.Ts, want)
					}
					steps++
				}
			}
			if steps != 5 {
				t.Errorf("%d steps", steps)
			}
			off += time.Hour.Milliseconds()
		}
	})
}

// Wherever a process is killed, what it wrote is JSON.
func TestKilled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "trace.json")
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), "TRACE_FOR_EVER="+path)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil { // it is at work
		t.Error(err)
	}
	c.Process.Kill()
	c.Wait()
	if n := len(read(t, path)); n < 100 {
		t.Errorf("%d events", n)
	}
}

// The file and the one before it stay below their bound, and each can be read.
func TestBound(t *testing.T) {
	path := filepath.Join(t.TempDir(), "trace.json")
	f, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	f.half = 10_000
	var work sync.WaitGroup
	for i := range 8 {
		work.Go(func() {
			host := fmt.Sprint("host", i)
			for n := range 100 {
				end := f.Span(host, "offer", strings.Repeat("long ", 1000))
				f.HostStep(host, "files", "", int64(n))
				end()
				f.HostEnd(host)
			}
		})
	}
	work.Wait()
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{path, path + ".1"} {
		info, err := os.Stat(p)
		if err != nil || info.Size() > f.half+2*maxText+1000 {
			t.Errorf("%s: %v, %d bytes", p, err, info.Size())
		}
		if lines := tell(read(t, p)); len(lines) == 0 || strings.HasPrefix(lines[0], " ") {
			t.Errorf("%s: %q, want spans on tracks with names", p, lines)
		}
	}
}

// An earlier trace is kept; a link, a folder and a device are left alone.
func TestCreate(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "trace.json")
	for range 2 {
		f, err := Create(path)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	read(t, path+".1")

	if err := os.Symlink(path, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{filepath.Join(dir, "link"), dir, "/dev/null", filepath.Join(dir, "no/folder")} {
		if f, err := Create(p); err == nil || !strings.HasPrefix(err.Error(), "write a trace to "+p+": ") {
			t.Errorf("Create(%s) = %v, %v", p, f, err)
		}
	}
}

// A full disk ends the trace; what was written can be read.
func TestFail(t *testing.T) {
	path := filepath.Join(t.TempDir(), "trace.json")
	f, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	f.Span("run", "sync", "")
	f.mu.Lock()
	f.fail(os.ErrDeadlineExceeded)
	f.mu.Unlock()
	f.Span("run", "load", "")()
	if got := tell(read(t, path)); len(got) != 1 {
		t.Errorf("trace %q", got)
	}
	if err := f.Close(); err == nil {
		t.Error("Close returned no error")
	}
}
