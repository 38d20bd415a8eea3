package unitfile_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"bellhop/internal/unitfile"

	"github.com/google/go-cmp/cmp"
)

// read is a file in one line each: "LINE:COLUMN Section.Key=Value".
func read(f *unitfile.File) []string {
	var lines []string
	for _, a := range f.Assignments {
		lines = append(lines, fmt.Sprintf("%d:%d %s.%s=%s", a.Line, a.Column, a.Section, a.Key, a.Value))
	}
	return lines
}

func TestParse(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"plain":                          {"[A]\nk=v\nl = w x \n", []string{"2:1 A.k=v", "3:1 A.l=w x"}},
		"blanks around everything":       {"  [A]  \n\t k\t=\tv\t\n", []string{"2:3 A.k=v"}},
		"blanks inside brackets":         {"[ A ]\nk=v\n", []string{"2:1  A .k=v"}},
		"comments":                       {"# [X]\n[A]\n;k=v\n  # k=v\nk=#v ; w\n", []string{"5:1 A.k=#v ; w"}},
		"continued":                      {"[A]\nk=a \\\n  b\nl=c\n", []string{"2:1 A.k=a    b", "4:1 A.l=c"}},
		"continued over comments":        {"[A]\nk=a\\\n# no\n ; no \\\nb\nl=c\n", []string{"2:1 A.k=a b", "6:1 A.l=c"}},
		"continued, then a blank line":   {"[A]\nk=a\\\n\nl=b\n", []string{"2:1 A.k=a", "4:1 A.l=b"}},
		"continued at the end":           {"[A]\nk=a\\", []string{"2:1 A.k=a"}},
		"continued by its key":           {"[A]\nke\\\ny=a\n", []string{"2:1 A.ke y=a"}},
		"an escaped backslash":           {"[A]\nk=a\\\\\nl=b\n", []string{"2:1 A.k=a\\\\", "3:1 A.l=b"}},
		"three backslashes":              {"[A]\nk=a\\\\\\\nb\n", []string{"2:1 A.k=a\\\\ b"}},
		"a blank behind the backslash":   {"[A]\nk=a\\ \nl=b\n", []string{"2:1 A.k=a\\", "3:1 A.l=b"}},
		"CR LF":                          {"[A]\r\nk=a\\\r\nb\r\nl=c\r\n", []string{"2:1 A.k=a b", "4:1 A.l=c"}},
		"CR alone":                       {"[A]\rk=a\rl=b\r", []string{"2:1 A.k=a", "3:1 A.l=b"}},
		"CR LF CR":                       {"[A]\r\n\rk=a", []string{"3:1 A.k=a"}},
		"NUL ends a line":                {"[A]\nk=a\x00l=b\x00\x00m=c", []string{"2:1 A.k=a", "3:1 A.l=b", "5:1 A.m=c"}},
		"byte order mark":                {"\ufeff[A]\nk=v\n", []string{"2:1 A.k=v"}},
		"second byte order mark":         {"\ufeff[A]\n\ufeffk=v\n", []string{"2:1 A.\ufeffk=v"}},
		"no-break space before a key":    {"[A]\n\u00a0k=v\u00a0\n", []string{"2:1 A.\u00a0k=v\u00a0"}},
		"vertical tab is no whitespace":  {"[A]\n\vk=v\f\n", []string{"2:1 A.\vk=v\f"}},
		"case counts":                    {"[a]\nK=v\n", []string{"2:1 a.K=v"}},
		"section twice":                  {"[A]\nk=1\n[B]\nk=2\n[A]\nk=3\n", []string{"2:1 A.k=1", "4:1 B.k=2", "6:1 A.k=3"}},
		"empty value":                    {"[A]\nk=\nl=  \n", []string{"2:1 A.k=", "3:1 A.l="}},
		"value with equals":              {"[A]\nk=a=b\n", []string{"2:1 A.k=a=b"}},
		".include is an unknown line":    {"[A]\n.include /etc/x\nk=v\n", []string{"3:1 A.k=v"}},
		"nothing behind a broken header": {"[A]\nk=v\n[B\nk=w\n", []string{"2:1 A.k=v"}},
		"nothing behind broken UTF-8":    {"[A]\nk=v\nl=\xff\nm=w\n", []string{"2:1 A.k=v"}},
		"broken UTF-8 in a comment":      {"[A]\n# \xff\nk=v\n", []string{"3:1 A.k=v"}},
		"empty":                          {"", nil},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, read(unitfile.Parse([]byte(c.text)))); diff != "" {
				t.Errorf("Parse(%q) (-want +got):\n%s", c.text, diff)
			}
		})
	}
}

func TestFaults(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want []unitfile.Fault
	}{
		"header":      {"[A]\n [B \nk=v", []unitfile.Fault{{unitfile.BadHeader, "[B", "A", unitfile.Pos{2, 2}}}},
		"UTF-8":       {"[A]\nk=\xff", []unitfile.Fault{{unitfile.NotUTF8, "k=\ufffd", "A", unitfile.Pos{2, 1}}}},
		"no equals":   {"[A]\nhello\n", []unitfile.Fault{{unitfile.NoEquals, "hello", "A", unitfile.Pos{2, 1}}}},
		"no key":      {"[A]\n=v\n", []unitfile.Fault{{unitfile.NoKey, "=v", "A", unitfile.Pos{2, 1}}}},
		"no section":  {"\nk=v\n[A]", []unitfile.Fault{{unitfile.NoSection, "k=v", "", unitfile.Pos{2, 1}}}},
		"long line":   {"[A]\nk=" + strings.Repeat("x", unitfile.MaxLine), []unitfile.Fault{{unitfile.LineTooLong, "k=" + strings.Repeat("x", 198), "A", unitfile.Pos{2, 1}}}},
		"long joined": {"[A]\nk=" + strings.Repeat(strings.Repeat("x", 1000)+"\\\n", 1100), []unitfile.Fault{{unitfile.LineTooLong, "k=" + strings.Repeat("x", 198), "A", unitfile.Pos{2, 1}}}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, unitfile.Parse([]byte(c.text)).Faults); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
		})
	}
}

// A unit of 24 MB, of continued lines or of a great many short ones, costs no more than its size.
func TestParseIsLinear(t *testing.T) {
	const size = 24 << 20
	for name, line := range map[string]string{
		"continued": "x \\\n", "blank": "\n", "comments": "#\n", "CR": "\r", "NUL": "\x00", "backslashes": `\\`, "headers": "[A]\n", "stray": "x\n", "keys": "a=\n",
		"words": "k='a' \\\n",
	} {
		text := []byte("[A]\nk=x\n" + strings.Repeat(line, size/len(line)))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		start := time.Now()
		unitfile.Parse(text)
		took := time.Since(start)
		runtime.ReadMemStats(&after)

		if took > 5*time.Minute {
			t.Errorf("%s: Parse of %d MB took %v", name, size>>20, took)
		}
		const most = size
		if grown := after.TotalAlloc - before.TotalAlloc; grown > most {
			t.Errorf("%s: Parse allocated %d MB for %d MB", name, grown>>20, size>>20)
		}
	}
}

// verify is what systemd itself says of a unit file; the test is skipped where it is missing.
func verify(t *testing.T, name, text string) string {
	t.Helper()
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed: compared where it is")
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(analyze, "verify", "--man=no", "--generators=no", path)
	cmd.Env = append(os.Environ(), "SYSTEMD_LOG_LEVEL=info", "SYSTEMD_COLORS=0", "LC_ALL=C")
	out, _ := cmd.CombinedOutput()
	return strings.ReplaceAll(string(out), path, name)
}

// What the parser finds is what systemd finds: unknown keys are told by systemd with their line
// and name, so a file of nothing else shows where it divides lines, and what it takes for a key.
func TestParseAsSystemd(t *testing.T) {
	for name, text := range map[string]string{
		"line ends":       "[Service]\r\nExecStart=/bin/true\rA1=x\x00A2=x\n\rA3=x\r\n\r\nA4=x\n\n\nA5=x\x00\x00A6=x\n",
		"byte order":      "\ufeff[Service]\nExecStart=/bin/true\n\ufeffB1=x\nB2=x\n",
		"whitespace":      "  [Service]\t\nExecStart=/bin/true\n\t C1 \t= x\n\u00a0C2=x\n\vC3=x\nC4\u00a0=x\n",
		"continued":       "[Service]\nExecStart=/bin/true \\\n D1=x\nD2\\\nD3=x\nD4=x\\\\\nD5=x\\\n#D6=x\\\n;D7=x\nD8=x\nD9=x\\\n\nE1=x\nE2=\\",
		"comments":        "[Service]\nExecStart=/bin/true\n # F1=x\nF2=x # y\n;F3=x\n F4;=x\n",
		"unknown section": "[Service]\nExecStart=/bin/true\nG1=x\n[Nope]\nG2=x\nhello\n[X-Y]\nG3=x\n[Service]\nG4=x\nhello\n=x\n",
	} {
		t.Run(name, func(t *testing.T) {
			said := verify(t, "x.service", text)
			var want []string
			for _, line := range strings.Split(said, "\n") {
				if _, rest, ok := strings.Cut(line, ": Unknown key '"); ok {
					key, _, _ := strings.Cut(rest, "'")
					want = append(want, key)
				} else if _, rest, ok := strings.Cut(line, ": Unknown key name '"); ok { // before 249
					key, _, _ := strings.Cut(rest, "'")
					want = append(want, key)
				}
			}

			var got []string
			for _, a := range unitfile.Parse([]byte(text)).Assignments {
				if a.Section == "Service" && a.Key != "ExecStart" {
					got = append(got, a.Key)
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("keys %q, systemd finds %q:\n%s", got, want, said)
			}
		})
	}
}

func TestUnit(t *testing.T) {
	u := unitfile.Read([]byte("[Service]\nType=oneshot\nExecStart=/bin/a\n[Install]\nWantedBy=a.target 'b.target' # c\n"),
		[]byte("[Service]\nExecStart=\nExecStart=/bin/b\n[Install]\nWantedBy=d.target\n"))
	if got := u.Values("Service", "ExecStart"); !slices.Equal(got, []string{"/bin/b"}) {
		t.Errorf("ExecStart = %q, want only that of the drop-in", got)
	}
	if got := u.Words("Install", "WantedBy"); !slices.Equal(got, []string{"a.target", "b.target", "#", "c", "d.target"}) {
		t.Errorf("WantedBy = %q", got)
	}
	if !u.Installs() || !u.Oneshot() {
		t.Errorf("Installs = %v, Oneshot = %v, want both", u.Installs(), u.Oneshot())
	}

	u.Add(unitfile.Parse([]byte("[Service]\nRemainAfterExit=yes\n[Install]\nWantedBy=\n")))
	if u.Installs() || u.Oneshot() {
		t.Errorf("Installs = %v, Oneshot = %v, want neither", u.Installs(), u.Oneshot())
	}
}

func TestWords(t *testing.T) {
	for value, want := range map[string][]string{
		`a b`:          {"a", "b"},
		` a  'b c' `:   {"a", "b c"},
		`a"b c"d`:      {"ab cd"},
		`"" ''`:        {"", ""},
		`a\x2db`:       {`a\x2db`},
		"a\u00a0b":     {"a\u00a0b"},
		`"it's" 'a"b'`: {"it's", `a"b`},
	} {
		if got, err := unitfile.Words(value); err != nil || !slices.Equal(got, want) {
			t.Errorf("Words(%q) = %q, %v; want %q", value, got, err, want)
		}
	}
	for value, want := range map[string][]string{
		`a\x2db`:      {"a-b"},
		`a\sb 'c\td'`: {"a b", "c\td"},
		`\; ; a\;`:    {`\;`, ";", `a\;`},
		`\q \xZZ`:     {`\q`, `\xZZ`},
		`\101\u00e9`:  {"A\u00e9"},
		`"a\"b"`:      {`a"b`},
	} {
		if got, err := unitfile.CommandWords(value); err != nil || !slices.Equal(got, want) {
			t.Errorf("CommandWords(%q) = %q, %v; want %q", value, got, err, want)
		}
	}
	if _, err := unitfile.Words(`a "b`); err == nil {
		t.Error("Words of an open quote went through")
	}
}

func TestActivates(t *testing.T) {
	for name, c := range map[string]struct{ unit, text, want string }{
		"timer":                   {"a.timer", "", "a.service"},
		"timer of another":        {"a.timer", "[Timer]\nUnit=b.service\n", "b.service"},
		"path":                    {"a.path", "[Path]\n Unit = b.service", "b.service"},
		"socket":                  {"a.socket", "", "a.service"},
		"socket of another":       {"a.socket", "[Socket]\nService=b.service\n", "b.service"},
		"socket for each":         {"a.socket", "[Socket]\nAccept=YES\n", "a@.service"},
		"Service= in [Unit]":      {"a.socket", "[Unit]\nService=b.service\n", "a.service"},
		"Service= in a comment":   {"a.socket", "[Socket]\n#x\\\nService=b.service\n", "b.service"},
		"a service starts itself": {"a.service", "", ""},
	} {
		if got := unitfile.Read([]byte(c.text)).Activates(c.unit); got != c.want {
			t.Errorf("%s: Activates = %q, want %q", name, got, c.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("[A]\nk=v\\\n#c\nw\n"))
	f.Add([]byte("\ufeff[A]\r\nk='v \"\x00[B\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		file := unitfile.Parse(text)
		size := 0
		for _, a := range file.Assignments {
			size += len(a.Key) + len(a.Value)
			if a.Key == "" || a.Section == "" && len(file.Sections) == 0 {
				t.Errorf("Parse(%q) has %+v", text, a)
			}
			if strings.Trim(a.Value, unitfile.Whitespace) != a.Value {
				t.Errorf("Parse(%q): blanks around %q", text, a.Value)
			}
			for _, split := range []func(string) ([]string, error){unitfile.Words, unitfile.CommandWords} {
				words, _ := split(a.Value)
				length := 0
				for _, w := range words {
					length += len(w)
				}
				if length > len(a.Value) {
					t.Errorf("words of %q are longer than it: %q", a.Value, words)
				}
			}
		}
		if size > len(text) {
			t.Errorf("Parse(%q): %d bytes of assignments in %d", text, size, len(text))
		}
	})
}
