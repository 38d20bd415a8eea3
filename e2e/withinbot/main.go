// Command withinbot is the small bot that the end-to-end tests deploy. It reads its token
// from the environment, its facts from a campaign folder of its package, and logs one
// printer fact a second. With PORT it holds that port, so that a rename can be felt.
package main

import (
	"crypto/sha256"
	"fmt"
	"log"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

func main() {
	log.SetFlags(0)
	token := os.Getenv("TOKEN")
	if token == "" {
		log.Fatal("withinbot: no TOKEN")
	}
	// A proof of the token that is not the token: the test computes the same.
	log.Printf("withinbot: token %x", sha256.Sum256([]byte(token)))
	if port := os.Getenv("PORT"); port != "" {
		l, err := net.Listen("tcp", "127.0.0.1:"+port)
		if err != nil {
			log.Fatalf("withinbot: %v", err)
		}
		defer l.Close()
	}
	facts, err := campaign(os.Getenv("CAMPAIGN_FOLDER"))
	if err != nil {
		log.Fatalf("withinbot: %v", err)
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	for i := 0; ; i++ {
		fmt.Println("printer fact:", facts[i%len(facts)])
		select {
		case <-time.After(time.Second):
		case <-stop:
			log.Print("withinbot: good night")
			return
		}
	}
}

// campaign reads the facts, one a line, of all files in dir.
func campaign(dir string) ([]string, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.txt"))
	if err != nil {
		return nil, err
	}
	var facts []string
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		facts = append(facts, strings.Split(strings.TrimSpace(string(b)), "\n")...)
	}
	if len(facts) == 0 {
		return nil, fmt.Errorf("no facts in %q", dir)
	}
	return facts, nil
}
