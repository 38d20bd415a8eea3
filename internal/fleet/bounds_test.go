package fleet

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"bellhop/internal/fleet/problem"
	"bellhop/internal/fleet/tree"
)

// boundsTree is a small config with some files replaced or added.
func boundsTree(files map[string]string) fstest.MapFS {
	m := fstest.MapFS{
		"bellhop.yaml":                    {Data: []byte("network: n\nhosts:\n  a:\n    address: 10.0.0.1\n    host_key: " + boundsKey + "\n    services: { web: true }\n")},
		"services/web/files/etc/web.conf": {Data: []byte("x\n")},
	}
	for name, text := range files {
		m[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return m
}

const boundsKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"

// refusal loads a tree that must be refused.
func refusal(t *testing.T, m fstest.MapFS) problem.Problems {
	t.Helper()
	_, err := (&Loader{}).Load(t.Context(), m)
	var ps problem.Problems
	if !errors.As(err, &ps) {
		t.Fatalf("Load = %v, want problems", err)
	}
	return ps
}

// TestBoundedTemplates: no template takes more than its budget, whatever it does with it.
func TestBoundedTemplates(t *testing.T) {
	const tmpl = "services/web/files/etc/x.tmpl"
	big := `{{$a := printf "%1000000d" 1}}`
	for name, c := range map[string]struct{ text, want string }{
		"the root calls itself":     {`{{template "` + tmpl + `" .}}{{template "` + tmpl + `" .}}`, "deep"},
		"a define calls itself":     {`{{define "x"}}{{template "x" .}}{{template "x" .}}{{end}}{{template "x" .}}`, "deep"},
		"two defines take turns":    {`{{define "a"}}{{template "b" .}}{{end}}{{define "b"}}{{template "a" .}}{{end}}{{template "a" .}}`, "deep"},
		"a wide fan of calls":       {fan(7, 10), "million"},
		"a loop of empty turns":     {`{{range 2000000}}{{end}}`, "million"},
		"loops in loops":            {`{{range 2000}}{{range 2000}}{{end}}{{end}}`, "million"},
		"wide numbers in a loop":    {`{{range 999999}}{{$x := printf "%1000000d" 1}}{{end}}`, "16 MiB"},
		"wide by a star":            {`{{range 999999}}{{$x := printf "%*d" 1000000 1}}{{end}}`, "16 MiB"},
		"precision":                 {`{{range 999999}}{{$x := printf "%.1000000f" 1.0}}{{end}}`, "16 MiB"},
		"one wide verb after other": {`{{$x := printf "` + strings.Repeat("%999999d", 20) + `" 1}}`, "16 MiB"},
		"one argument many times":   {big + `{{$x := printf "` + strings.Repeat("%[1]s", 100) + `" $a}}`, "16 MiB"},
		"replace by itself":         {big + `{{$b := replace " " $a $a}}{{len $b}}`, "16 MiB"},
		"doubling":                  {`{{$a := "aaaaaaaa"}}` + strings.Repeat(`{{$a = printf "%s%s" $a $a}}`, 30), "16 MiB"},
		"doubling by print":         {`{{$a := "aaaaaaaa"}}` + strings.Repeat(`{{$a = print $a $a}}`, 30), "16 MiB"},
		"doubling by println":       {`{{$a := "aaaaaaaa"}}` + strings.Repeat(`{{$a = println $a $a}}`, 30), "16 MiB"},
		"html":                      {big + `{{$a = replace " " "<" $a}}{{$a = html $a}}{{$a = html $a}}{{$a = html $a}}`, "16 MiB"},
		"js":                        {big + `{{$a = replace " " "<" $a}}{{$a = js $a $a $a}}{{$a = js $a}}`, "16 MiB"},
		"urlquery":                  {big + `{{$a = urlquery $a $a}}{{$a = urlquery $a $a}}{{$a = urlquery $a $a}}`, "16 MiB"},
		"json":                      {big + `{{$a = json $a}}{{$a = json $a}}{{range 100}}{{$a = json $a}}{{end}}`, "16 MiB"},
		"base64":                    {big + `{{range 100}}{{$a = base64 $a}}{{end}}`, "16 MiB"},
		"indent":                    {big + `{{$a = replace " " "\n" $a}}{{$a = indent 80 $a}}`, "16 MiB"},
		"split":                     {big + `{{$l := split " " $a}}{{$l = split "" $a}}`, "16 MiB"},
		"join with a long sep":      {big + `{{$l := split "" (printf "%100d" 1)}}{{$b := join $a $l}}`, "16 MiB"},
		"lower, again and again":    {big + `{{range 100}}{{$b := lower $a}}{{end}}`, "16 MiB"},
		"trim, again and again":     {big + `{{range 100}}{{$b := trim $a}}{{end}}`, "16 MiB"},
		"env":                       {big + `{{range 100}}{{$b := env $a}}{{end}}`, "16 MiB"},
		"output":                    {`{{range 999999}}xxxxxxxxxxxx{{end}}`, "larger than 1 MiB"},
		"an address of memory":      {`{{printf "%p" .Host}}`, "%p"},
		"include of itself":         {`{{include "shared/a.tmpl" .}}`, "deep"},
		"includes that double":      {`{{include "shared/b.tmpl" .}}`, "16 MiB"},
		"nested ifs":                {strings.Repeat("{{if true}}", 40_000), "blocks in each other"},
		"nested ifs with trims":     {strings.Repeat("{{- if true -}}", 30_000), "blocks in each other"},
		"a chain of else-ifs":       {"{{if true}}" + strings.Repeat("{{else if true}}", 40_000) + "{{end}}", "blocks in each other"},
		"nested ranges and withs":   {strings.Repeat("{{range 1}}{{with 1}}", 20_000), "blocks in each other"},
		"quotes hide no end":        {strings.Repeat("{{if \"}} {{end}}\"}}", 10_000), "blocks in each other"},
		"parentheses":               {"{{" + strings.Repeat("(", 500_000), "parentheses"},
		"parentheses, closed":       {"{{" + strings.Repeat("(", 1000) + "1" + strings.Repeat(")", 1000) + "}}", "parentheses"},
		"a large file":              {strings.Repeat("x", 2<<20), "larger than 1 MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			ps := refusal(t, boundsTree(map[string]string{tmpl: c.text, "shared/a.tmpl": `{{include "shared/a.tmpl" .}}`,
				"shared/b.tmpl": `{{range 5000}}{{$a := include "shared/c.tmpl" .}}{{end}}`, "shared/c.tmpl": strings.Repeat("x", 10_000)}))
			if p := ps[0]; p.File != tmpl || !strings.Contains(p.Message, c.want) {
				t.Errorf("Load = %.300v, want %s: … %s …", p, tmpl, c.want)
			}
		})
	}
}

// fan is defines that call the next one n times, deep levels of them.
func fan(deep, n int) string {
	var b strings.Builder
	for i := range deep {
		fmt.Fprintf(&b, `{{define "t%d"}}%s{{end}}`, i, strings.Repeat(fmt.Sprintf(`{{template "t%d" .}}`, i+1), n))
	}
	fmt.Fprintf(&b, `{{define "t%d"}}{{end}}{{template "t0" .}}`, deep)
	return b.String()
}

// TestOrdinaryTemplates: the bounds are far from what configs do.
func TestOrdinaryTemplates(t *testing.T) {
	for _, text := range []string{
		"{{range 1000}}{{printf \"%-20s %08d %5.2f\\n\" \"x\" . 1.5}}{{end}}",
		"{{if true}}a{{else if false}}b{{else}}c{{end}}{{/* }} {{if */}}",
		strings.Repeat("{{if true}}x{{end}}", 5000),
		"{{$l := split \",\" \"a,b,c\"}}{{join \"; \" $l}} {{json $l}} {{base64 \"x\"}} {{indent 4 \"a\\nb\"}}",
		"{{with .Host}}{{.Name}} {{printf \"%v %q %d\" . . .}}{{end}}{{printf \"%v\" .Fleet}}{{print .Fleet.Hosts}}",
		"{{`}}`}}{{'\\''}}{{\"\\\"}}\"}}",
		"{{define \"x\"}}{{if gt . 0}}x{{end}}{{end}}{{template \"x\" 3}}",
	} {
		if _, err := (&Loader{}).Load(t.Context(), boundsTree(map[string]string{"services/web/files/etc/x.tmpl": text})); err != nil {
			t.Errorf("%.80q: %v", text, err)
		}
	}
}

// TestBoundedYAML: depth, size and repetition are seen before the parser works on them.
func TestBoundedYAML(t *testing.T) {
	laughs := "settings:\n  a0: &a0 [x]\n"
	for i := 1; i < 20; i++ {
		laughs += fmt.Sprintf("  a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i-1), 10), ", "))
	}
	for name, c := range map[string]struct{ text, want string }{
		"brackets, closed":       {strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000), "nested too deep"},
		"brackets, open":         {strings.Repeat("[", 50_000), "nested too deep"},
		"braces":                 {strings.Repeat("{", 50_000), "nested too deep"},
		"braces with keys":       {strings.Repeat("{a: ", 50_000), "nested too deep"},
		"dashes on a line":       {strings.Repeat("- ", 20_000), "nested too deep"},
		"question marks":         {strings.Repeat("? ", 20_000), "nested too deep"},
		"indented mappings":      {staircase(700), "nested too deep"},
		"tags":                   {"a: " + strings.Repeat("!!str ", 20_000) + "x", "nested too deep"},
		"brackets behind quotes": {strings.Repeat(`["]", `, 10_000), "nested too deep"},
		"an alias in its anchor": {"settings: { a: &a [*a, *a] }", "within its own anchor"},
		"aliases of aliases":     {laughs, "too large"},
		"one large mapping":      {strings.Repeat("a:\n", 200_000), "names in one mapping"},
		"one large list":         {strings.Repeat("- &a x\n", 140_000), "want a mapping"},
		"a large file":           {"# " + strings.Repeat("x", 2<<20), "larger than 1 MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			ps := refusal(t, boundsTree(map[string]string{"services/web/service.yaml": c.text}))
			if p := ps[0]; p.File != "services/web/service.yaml" || !strings.Contains(p.Message, c.want) {
				t.Errorf("Load = %.300v, want services/web/service.yaml: … %s …", p, c.want)
			}
		})
	}
}

func staircase(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

// TestOrdinaryYAML: what looks deep and is not, stays allowed.
func TestOrdinaryYAML(t *testing.T) {
	for _, text := range []string{
		"settings:\n  a: |\n" + strings.Repeat("    [[[[[[[[[[[[[[[[{{{{{{{{{{{{{{{{\n", 20),
		"settings: { a: '" + strings.Repeat("[", 500) + "', b: \"" + strings.Repeat("{", 500) + "\" }",
		"# " + strings.Repeat("[", 500) + "\nsettings: { a: 1 }",
		"settings:\n  a: &x { b: 1 }\n  c: *x\n  d: *x\n",
		"settings:\n" + strings.Repeat("", 0) + sequence(5000),
	} {
		if _, err := (&Loader{}).Load(t.Context(), boundsTree(map[string]string{"services/web/service.yaml": text})); err != nil {
			t.Errorf("%.80q: %v", text, err)
		}
	}
}

func sequence(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "  k%d: [1, { a: b }]\n", i)
	}
	return b.String()
}

// TestProblemsAreCapped: the first hundred are told, and the rest counted.
func TestProblemsAreCapped(t *testing.T) {
	var b strings.Builder
	b.WriteString("network: n\n")
	for i := range 1000 {
		fmt.Fprintf(&b, "x%d: 1\n", i)
	}
	b.WriteString("groups:\n")
	for g := range 99 {
		fmt.Fprintf(&b, "  g%d:\n", g)
		for i := range 1000 {
			fmt.Fprintf(&b, "    x%d: 1\n", i)
		}
	}
	ps := refusal(t, fstest.MapFS{"bellhop.yaml": {Data: []byte(b.String())}})
	if len(ps) != problem.Max+1 || ps[problem.Max].Message != "and 99,900 more" || ps[problem.Max].File != "bellhop.yaml" {
		t.Fatalf("%d problems, the last %v; want 101, and 99,900 more", len(ps), ps[len(ps)-1])
	}
	if p := ps[99]; p.Line != 101 || p.Source != "x99: 1" {
		t.Errorf("problem 100 is %v, want line 101 with its source", p)
	}
}

// TestManyNames: what is looked up by name is not looked up along a list.
func TestManyNames(t *testing.T) {
	var readers, jumps strings.Builder
	readers.WriteString("network: n\nreaders:\n")
	jumps.WriteString("network: n\nhosts:\n")
	for i := range 4000 {
		fmt.Fprintf(&readers, "  r%d: [nobody%d]\n", i, i)
		fmt.Fprintf(&jumps, "  h%d:\n    address: 10.%d.%d.%d\n    host_key: %s\n    jump: h%d\n", i, i>>16, i>>8&255, i&255, boundsKey, i+1)
	}
	for name, text := range map[string]string{"readers": readers.String(), "jumps": jumps.String()} {
		if ps := refusal(t, fstest.MapFS{"bellhop.yaml": {Data: []byte(text)}}); len(ps) == 0 {
			t.Errorf("%s: no problem", name)
		}
	}
}

// TestJumpCircles: who leads into a circle is told, and who leads to an end is not.
func TestJumpCircles(t *testing.T) {
	text := "network: n\nhosts:\n"
	for i, h := range []struct{ name, jump string }{{"a", "b"}, {"b", "c"}, {"c", "a"}, {"into", "a"}, {"good", "end"}, {"end", ""}, {"self", "self"}} {
		text += fmt.Sprintf("  %s: { address: 10.0.0.%d, host_key: %s, jump: %q }\n", h.name, i+1, boundsKey, h.jump)
	}
	var round []string
	for _, p := range refusal(t, fstest.MapFS{"bellhop.yaml": {Data: []byte(text)}}) {
		if strings.Contains(p.Message, "circle") {
			round = append(round, strings.Fields(p.Message)[1])
		}
	}
	if want := []string{"a:", "b:", "c:", "into:", "self:"}; !slices.Equal(round, want) {
		t.Errorf("in a circle: %v, want %v", round, want)
	}
}

// TestPathsAsHostsTakeThem: check refuses what the host would.
func TestPathsAsHostsTakeThem(t *testing.T) {
	for name, want := range map[string]string{
		strings.Repeat("x", 256):                         "longer than 255",
		strings.Repeat("abcdefghi/", 110) + "x":          "in each other",
		strings.Repeat(strings.Repeat("y", 200)+"/", 25): "longer than 4000",
	} {
		m := boundsTree(map[string]string{"services/web/files/" + strings.TrimSuffix(name, "/"): "x"})
		if want == "in each other" {
			m = boundsTree(map[string]string{"services/web/files/" + strings.Repeat("a/", 4000) + "x": "x"})
		}
		if p := refusal(t, m)[0]; !strings.Contains(p.Message, want) {
			t.Errorf("%.40s…: %v, want %s", name, p, want)
		}
	}
}

// TestTooManyFiles: a folder with more files than any host takes ends the listing.
func TestTooManyFiles(t *testing.T) {
	m := boundsTree(nil)
	for i := range tree.MaxEntries + 1 {
		m[fmt.Sprintf("services/web/files/etc/%d", i)] = &fstest.MapFile{}
	}
	if p := refusal(t, m)[0]; p.File != "services/web/files/etc" || !strings.Contains(p.Message, "200,000") {
		t.Errorf("%v, want the folder and the bound", p)
	}
}
