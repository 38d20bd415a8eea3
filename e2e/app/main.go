// Command app is what runs in the containers of the stories: the only program of its image.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// version differs between images: the linker sets it.
var version = "none"

func main() {
	what := "run"
	if len(os.Args) > 1 {
		what = os.Args[1]
	}

	fmt.Println("app", version, what)
	switch what {
	case "run": // app run [FILE…]: says what the files hold, and stays
		for _, f := range os.Args[2:] {
			p, err := os.ReadFile(f)
			fmt.Printf("%s: %q %v\n", f, p, err)
		}
		end := make(chan os.Signal, 1)
		signal.Notify(end, syscall.SIGTERM, syscall.SIGINT)
		<-end
	case "once":
	case "check": // app check FILE: a healthcheck
		if _, err := os.Stat(os.Args[2]); err != nil {
			fmt.Println("not healthy:", err)
			os.Exit(1)
		}
	case "crash":
		fmt.Println("this app always crashes")
		os.Exit(3)
	}
}
