package agefile_test

import (
	"fmt"
	"log"
	"os"
	"path/filepath"

	"bellhop/secrets/agefile"
	"bellhop/secrets/privatefile"
)

// A value is sealed for its readers, and opened with the private key of one of them.
func Example() {
	dir, err := os.MkdirTemp("", "bellhop-example-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	identity := filepath.Join(dir, "identity.age")
	if _, err := privatefile.Make(identity, agefile.NewIdentity); err != nil { // as age-keygen writes it, mode 0600
		log.Fatal(err)
	}
	ids, err := agefile.Sources{Files: []string{identity}}.Load()
	if err != nil {
		log.Fatal(err)
	}
	reader, err := agefile.ParseRecipient(ids.Recipients()[0])
	if err != nil {
		log.Fatal(err)
	}
	sealed, err := agefile.Seal([]byte("TOKEN=1234"), []agefile.Recipient{reader}, agefile.SealOptions{})
	if err != nil {
		log.Fatal(err)
	}

	value, err := ids.Open("secrets/token.age", sealed)
	if err != nil {
		log.Fatal(err)
	}
	defer clear(value)
	fmt.Printf("%s\n", value)
	// Output: TOKEN=1234
}
