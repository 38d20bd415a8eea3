package mask_test

import (
	"encoding/base64"
	"runtime"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/dotenv"

	"bellhop/internal/mask"
)

// What a container gets of a key that is an env file is found, however the file spells it. Compose's own
// reader says what that is.
func TestFilterReadsEnvFilesAsComposeDoes(t *testing.T) {
	for _, tt := range []struct{ file, value string }{
		{"P=hunter2hunter2 # prod", "hunter2hunter2"},
		{"P=hunter2#hunter2 # prod # two", "hunter2#hunter2"},
		{"P:hunter2hunter2", "hunter2hunter2"},
		{"P:a=hunter2hunter2", "a=hunter2hunter2"},
		{"P : hunter2hunter2 # prod", "hunter2hunter2"},
		{"export P='hunter2hunter2' # prod", "hunter2hunter2"},
		{`P='hunter2 # hunter2' # prod`, "hunter2 # hunter2"},
		{`P='it\'s hunter2'`, "it's hunter2"},
		{`P="hunter2hunter2" # it's "prod"`, "hunter2hunter2"},
		{`P="hunter2\"hunter2"`, `hunter2"hunter2`},
		{`P="hunter2\\hunter2"`, `hunter2\hunter2`},
		{`P="hunter2\$hunter2"`, "hunter2$hunter2"},
		{`P="hunter2\thunter2"`, "hunter2\thunter2"},
		{`P="hunter2\0101hunter2\c"`, `hunter2Ahunter2\c`},
		{`P="hunter2\0008hunter2"`, `hunter2\008hunter2`},
		{`P="hunter2-a\nhunter2-b"`, "hunter2-a\nhunter2-b"},
		{"P=hunter2$$hunter2", "hunter2$hunter2"},
		{"P=\"hunter2-a\nhunter2-b # c\n\" # prod\nQ=x", "hunter2-a\nhunter2-b # c\n"},
		{"Q=\"x\ny\" P=hunter2hunter2 # prod", "hunter2hunter2"},
		{"A=hunter2\nP=${A}${A}", "hunter2hunter2"},
		{"A=hunter2\nP=$A-$A", "hunter2-hunter2"},
		{"P=${A:-hunter2 hunter2} # prod", "hunter2 hunter2"},
		{"P=${A-${B:-hunter2hunter2}}", "hunter2hunter2"},
		{"A=1\nP=${A:+hunter2hunter2}${A+/2}", "hunter2hunter2/2"},
		{"# it's a note\nP=\"hunter2hunter2\" # prod", "hunter2hunter2"},
	} {
		vars, err := dotenv.UnmarshalWithLookup(tt.file, nil)
		if err != nil || vars["P"] != tt.value {
			t.Errorf("compose reads %q as %q, %v, want %q", tt.file, vars["P"], err, tt.value)
		}
		var f mask.Filter
		f.Add("env", []byte(tt.file))
		for _, said := range []string{tt.value, base64.StdEncoding.EncodeToString([]byte(tt.value))} {
			if got := f.Text("[" + said + "]"); got != "[‹key env›]" {
				t.Errorf("%q: Text(%q) = %q", tt.file, said, got)
			}
		}
		for line := range strings.SplitSeq(tt.value, "\n") {
			if got := f.Text("[" + line + "]"); len(line) >= 8 && got != "[‹key env›]" {
				t.Errorf("%q: Text(%q) = %q", tt.file, line, got)
			}
		}
	}
}

// What a variable stands for may be known elsewhere only: then the text around it is found.
func TestFilterFindsTextAroundVariables(t *testing.T) {
	var f mask.Filter
	f.Add("env", []byte("P=hunter2hunter2${ELSEWHERE}three3three3\nU=https://${HOST}/\nD=${ELSEWHERE:-default-default}\n"))
	for _, tt := range []struct{ in, want string }{
		{"it is hunter2hunter2-x-three3three3!", "it is ‹key env›-x-‹key env›!"},
		{"see https://example.org/", "see https://example.org/"},
		{"it is default-default", "it is ‹key env›"},
	} {
		if got := f.Text(tt.in); got != tt.want {
			t.Errorf("Text(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

// Variables that double at each line do not fill the memory.
func TestFilterBoundsVariables(t *testing.T) {
	var b strings.Builder
	b.WriteString("A=hunter2hunter2\n")
	for range 200 {
		b.WriteString("A=$A$A\n")
	}
	b.WriteString("B=" + strings.Repeat("${B:-", 2000) + strings.Repeat("}", 2000) + "\n")
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var f mask.Filter
	f.Add("env", []byte(b.String()))
	f.Prepare()
	runtime.ReadMemStats(&after)
	if took := (after.TotalAlloc - before.TotalAlloc) >> 20; took > 32 {
		t.Errorf("a key of 12 KB took %d MiB", took)
	}
}

// Each value that Compose would read in a file is taken out of a text.
func FuzzFilterEnv(f *testing.F) {
	f.Add("A=hunter2hunter2 # x\nB='a' # y\nC=\"d\\$e\\n${A:-x}\"")
	f.Add("A:\"x\ny\" B=$A$$")
	f.Fuzz(func(t *testing.T, file string) {
		if len(file) > 512 {
			return
		}
		var fl mask.Filter
		fl.Add("env", []byte(file))
		vars, err := dotenv.UnmarshalWithLookup(file, nil)
		if err != nil {
			return
		}
		for _, v := range vars {
			v = strings.TrimSpace(v)
			if len(v) < 8 || strings.Contains(v, "‹") || len(v) > 4096 {
				continue
			}
			if got := fl.Text("\n" + v + "\n"); strings.Contains(got, v) {
				t.Fatalf("of %q the value %q passes: %q", file, v, got)
			}
		}
	})
}
