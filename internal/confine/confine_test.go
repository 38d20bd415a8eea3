package confine

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestMain makes the test binary a child too, when a test starts one. Each line that it reads names
// what it does.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "child" {
		in, err := Enter(os.Args[2:])
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		for lines := bufio.NewScanner(in.In); lines.Scan(); {
			in.At("at " + lines.Text())
			fmt.Fprintln(in.Out, do(lines.Text()))
		}
		os.Exit(0)
	}
	if len(os.Args) > 1 && os.Args[1] == "forbidden" {
		if err := forbidden(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

var sink []byte

func do(what string) string {
	said := func(err error) string {
		if err != nil {
			return "no: " + err.Error()
		}
		return "yes"
	}
	switch what {
	case "open":
		_, err := os.Open("/etc/passwd")
		return said(err)
	case "write":
		return said(os.WriteFile("/tmp/confine-test", []byte("x"), 0o600))
	case "dial":
		_, err := net.Dial("tcp", "127.0.0.1:1")
		return said(err)
	case "listen":
		_, err := net.Listen("tcp", "127.0.0.1:0")
		return said(err)
	case "unix":
		_, err := net.Listen("unix", "@confine-test")
		return said(err)
	case "exec":
		return said(exec.Command("/bin/true").Run())
	case "kill":
		p, _ := os.FindProcess(os.Getppid())
		return said(p.Signal(os.Interrupt))
	case "environment":
		return strings.Join(os.Environ(), " ")
	case "compute":
		done := make(chan int)
		for i := range 8 {
			go func() { done <- i * i; runtime.Gosched() }()
		}
		sum := 0
		for range 8 {
			sum += <-done
		}
		return fmt.Sprint(sum)
	case "loop":
		for n := 1; n != 0; n |= 1 { // without an end
		}
	case "sleep":
		time.Sleep(time.Hour)
	case "memory":
		for {
			sink = append(sink, make([]byte, 1<<20)...)
		}
	case "one large piece":
		sink = make([]byte, 8<<30)
		for i := range sink {
			sink[i] = 1
		}
	case "stack":
		return fmt.Sprint(deep(1))
	case "panic":
		panic("the reason")
	}
	return "?"
}

// deep calls itself until the stack is used up.
func deep(n int) int {
	var pad [512]byte
	pad[n%512] = byte(n)
	if n < 0 {
		return 0
	}
	return deep(n+1) + int(pad[0])
}

func start(t *testing.T) *Process {
	t.Helper()
	p, err := Start(Config{Argv: []string{"/proc/self/exe", "child"}, Memory: 256 << 20, CPU: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func ask(t *testing.T, p *Process, what string) (string, error) {
	t.Helper()
	if _, err := io.WriteString(p.In, what+"\n"); err != nil {
		return "", err
	}
	return bufio.NewReader(p.Out).ReadString('\n')
}

// TestMemoryIsForWork: a child has all of its memory for its work, whatever its program needs to
// start: here twice what the limit is, and more with each thread.
func TestMemoryIsForWork(t *testing.T) {
	if !LimitsMemory {
		t.Skip("memory is not limited here")
	}

	for range 20 {
		p, err := Start(Config{Argv: []string{"/proc/self/exe", "child"}, Memory: 40 << 20, CPU: 20 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ask(t, p, "compute"); err != nil || got != "140\n" {
			t.Errorf("compute = %q, %v: %s", got, err, p.Reason())
		}

		if _, err := ask(t, p, "memory"); err == nil || !strings.Contains(p.Reason(), "more than 40 MiB of memory") {
			t.Errorf("memory without end: %v: %s", err, p.Reason())
		}
		if p.Step() != "at memory" {
			t.Errorf("it ended at %q, want the work that took the memory", p.Step())
		}
		p.Close()
	}
}

// TestConfined: a child can compute, and nothing else.
func TestConfined(t *testing.T) {
	p := start(t)
	if got, err := ask(t, p, "compute"); err != nil || got != "140\n" {
		t.Fatalf("compute = %q, %v", got, err)
	}
	if got, _ := ask(t, p, "environment"); got != "\n" {
		t.Errorf("its environment is %q", got)
	}
	for _, what := range []string{"open", "write", "dial", "listen", "unix", "exec", "kill"} {
		got, err := ask(t, p, what)
		if err != nil || !strings.HasPrefix(got, "no: ") {
			t.Errorf("%s: %q, %v; want no", what, got, err)
		}
	}
}

// TestReasons: whatever a child dies of, its parent knows why, and at what.
func TestReasons(t *testing.T) {
	for what, want := range map[string]string{
		"memory": "of memory", "one large piece": "of memory", "stack": "the stack overflowed", "panic": "the reason",
	} {
		t.Run(what, func(t *testing.T) {
			if raceDetector && want == "of memory" {
				t.Skip("the race detector's own memory is not limited")
			}
			p := start(t)
			if got, err := ask(t, p, what); err == nil {
				t.Fatalf("it answers %q", got)
			}
			if got := p.Reason(); !strings.Contains(got, want) || p.Step() != "at "+what {
				t.Errorf("at %q: %s; want %s", p.Step(), got, want)
			}
		})
	}
}

// TestKill: a child that never ends is ended, with the reason that its parent gives.
func TestKill(t *testing.T) {
	for _, what := range []string{"loop", "sleep"} {
		p := start(t)
		time.AfterFunc(200*time.Millisecond, func() { p.Kill("it takes too long") })
		if got, err := ask(t, p, what); err == nil {
			t.Fatalf("it answers %q", got)
		}
		if got := p.Reason(); got != "it takes too long" {
			t.Errorf("%s: %s", what, got)
		}
	}
}

// TestClose: the end of its input is the end of a child.
func TestClose(t *testing.T) {
	p := start(t)
	p.In.Close()
	select {
	case <-p.Done():
	case <-time.After(time.Minute):
		t.Error("it goes on")
	}
}
