package secrets_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"bellhop/secrets"
)

// A value is sealed for its readers, and opened with the private key of one of them.
func Example() {
	dir, err := os.MkdirTemp("", "bellhop-example-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	identity := filepath.Join(dir, "identity.age")
	public, err := secrets.EnsureIdentity(identity) // as age-keygen writes it, mode 0600
	if err != nil {
		log.Fatal(err)
	}
	reader, err := secrets.ParseRecipient(public)
	if err != nil {
		log.Fatal(err)
	}
	sealed, err := secrets.Seal([]byte("TOKEN=1234"), []secrets.Recipient{reader}, secrets.SealOptions{})
	if err != nil {
		log.Fatal(err)
	}

	ids, err := secrets.LoadIdentities([]string{identity}, nil)
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

// Among the rules that match a path the most specific decides.
func ExampleRules_Find() {
	rules := secrets.Rules{Rules: []secrets.Rule{
		{Pattern: "secrets/**", Readers: []string{"admins"}},
		{Pattern: "secrets/web/*", Readers: []string{"admins", "web"}},
	}}
	for _, file := range []string{"secrets/db.age", "secrets/web/cert.age"} {
		rule, err := rules.Find(file)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(file, "is read by", rule.Readers)
	}
	// Output:
	// secrets/db.age is read by [admins]
	// secrets/web/cert.age is read by [admins web]
}

// Verify says what is wrong with the secrets of a tree, without a private key.
func ExampleVerify() {
	dir, err := os.MkdirTemp("", "bellhop-example-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.MkdirAll(filepath.Join(dir, "secrets"), 0o755); err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "secrets", "db.age"), []byte("hunter2"), 0o644); err != nil {
		log.Fatal(err)
	}

	for _, finding := range secrets.Verify(context.Background(), os.DirFS(dir), secrets.Check{Staged: true}) {
		fmt.Println(finding.File, finding.Rule, "refuses the push:", finding.Refuses)
	}
	// Output: secrets/db.age plaintext refuses the push: true
}
