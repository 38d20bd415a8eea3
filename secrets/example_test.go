package secrets_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"bellhop/secrets"
	"bellhop/secrets/agefile"
	"bellhop/secrets/privatefile"
)

// A store is the secrets of a config repo in a folder. Set needs no private key; Show does.
func ExampleStore() {
	dir, err := os.MkdirTemp("", "bellhop-example-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	identity := filepath.Join(dir, "identity.age")
	if _, err := privatefile.Make(identity, agefile.NewIdentity); err != nil {
		log.Fatal(err)
	}
	ids, err := agefile.Sources{Files: []string{identity}}.Load()
	if err != nil {
		log.Fatal(err)
	}

	store := &secrets.Store{
		Dir:        dir,
		Rules:      secrets.Rules{Names: map[string][]string{"cadey": ids.Recipients()}},
		Identities: func() (*agefile.Identities, error) { return ids, nil },
	}
	written, err := store.Set("db", []byte("hunter2"), secrets.SetOptions{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(written.File, "is sealed for", written.Readers)

	value, err := store.Show("db")
	if err != nil {
		log.Fatal(err)
	}
	defer clear(value)
	fmt.Printf("%s\n", value)
	// Output:
	// secrets/db.age is sealed for [cadey]
	// hunter2
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
