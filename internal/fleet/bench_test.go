package fleet_test

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"bellhop/internal/fleet"

	"github.com/goccy/go-yaml"
)

// benchTree is a fleet of n hosts with twenty files each: a service that all have, and one
// that ten have.
func benchTree(n int) fstest.MapFS {
	m := fstest.MapFS{}
	key := hostKey("bench")
	var b strings.Builder
	b.WriteString("network: n\nall:\n  services: { base: true }\nhosts:\n")
	for i := range n {
		fmt.Fprintf(&b, "  host%05d:\n    address: 10.%d.%d.%d\n    host_key: %s\n    arch: amd64\n    tags: [rack%d]\n", i, i>>16, i>>8&255, i&255, key, i%40)
		switch {
		case i < 10:
			b.WriteString("    services: { few: true }\n")
		case i%3 == 0:
			fmt.Fprintf(&b, "    services: { web: { port: %d } }\n", 8000+i%50)
		}
	}
	m["bellhop.yaml"] = file(b.String())
	for _, s := range []string{"base", "few", "web"} {
		m["services/"+s+"/"+s+".service"] = file(plainUnit)
		m["services/"+s+"/service.yaml"] = file("settings: { port: 80 }\n")
		for i := range 18 {
			m[fmt.Sprintf("services/%s/files/etc/%s/%d.conf", s, s, i)] = file(fmt.Sprintf("%s %d\n", s, i))
		}
		m["services/"+s+"/files/etc/"+s+"/port.tmpl"] = file("{{ .Settings.port }}\n")
	}
	return m
}

// all makes every host's bundle, as a plan does.
func all(b *testing.B, f *fleet.Fleet) {
	for _, h := range f.Hosts {
		if _, err := f.Bundle(h.Name); err != nil {
			b.Fatal(err)
		}
	}
}

func median(ds []time.Duration) time.Duration {
	slices.Sort(ds)
	return ds[len(ds)/2]
}

// BenchmarkRatioColdStart compares reading a fleet of 10,000 hosts and making every bundle
// with parsing its YAML alone: at most twice as long, medians of five. (What a commit costs
// in a running server is measured in deploy, with plan and history.)
func BenchmarkRatioColdStart(b *testing.B) {
	m := benchTree(10000)
	text := m["bellhop.yaml"].Data
	var base, subject []time.Duration
	for range 5 {
		runtime.GC()
		start := time.Now()
		var v struct {
			Network string
			All     map[string]any
			Hosts   map[string]struct {
				Address  string
				HostKey  string `yaml:"host_key"`
				Arch     string
				Tags     []string
				Services map[string]any
			}
		}
		if err := yaml.UnmarshalWithOptions(text, &v, yaml.Strict()); err != nil {
			b.Fatal(err)
		}
		base = append(base, time.Since(start))
		tree := hashed(m)
		runtime.GC()
		start = time.Now()
		f, err := loader().Load(b.Context(), tree)
		if err != nil {
			b.Fatal(err)
		}
		all(b, f)
		subject = append(subject, time.Since(start))
	}
	ratio := float64(median(subject)) / float64(median(base))
	b.ReportMetric(ratio, "ratio")
	b.Logf("cold start %v, the YAML alone %v", subject, base)
	if ratio > 2 {
		b.Errorf("a cold start took %.2f × the YAML alone, want at most 2 ×", ratio)
	}
}
