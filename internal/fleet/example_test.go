package fleet_test

import (
	"context"
	"fmt"
	"os"
	"testing/fstest"

	"bellhop/internal/fleet"
)

// A Loader reads a tree into a fleet, and the fleet says what each host should hold.
func ExampleLoader_Load() {
	tree := fstest.MapFS{
		"bellhop.yaml":                       {Data: []byte("network: hexagone\nhosts:\n  lufta: { address: lufta.lan, host_key: " + hostKey("lufta") + ", services: { web: { port: 0080 } } }\n")},
		"services/web/service.yaml":          {Data: []byte("settings: { port: 3030 }\n")},
		"services/web/files/etc/motd.tmpl":   {Data: []byte("port {{ .Settings.port }} of {{ .Host.Name }}\n")},
		"services/web/files/etc/banner.conf": {Data: []byte("hello\n")},
	}

	l := &fleet.Loader{}
	f, err := l.Load(context.Background(), tree)
	if err != nil {
		fmt.Println(err)
		return
	}
	b, err := f.Bundle("lufta")
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, file := range b.Files {
		data, _ := b.File(file.Digest)
		fmt.Printf("%s %04o: %s", file.Path, file.Mode, data)
	}
	// Output:
	// /etc/banner.conf 0644: hello
	// /etc/motd 0644: port 0080 of lufta
}

// Everything that is wrong is told at once, with its place and its line.
func ExampleProblems() {
	tree := fstest.MapFS{"bellhop.yaml": {Data: []byte("network: hexagone\nhost: {}\nconfirm: 30\n")}}

	_, err := (&fleet.Loader{}).Load(context.Background(), tree)
	fmt.Fprintln(os.Stdout, err)
	// Output:
	// bellhop.yaml:2:1: unknown field "host"; did you mean "hosts"?
	//     host: {}
	// bellhop.yaml:3:10: "30" is no duration: want a number with its unit, as in 500ms, 30s, 5m or 1h30m
	//     confirm: 30
}
