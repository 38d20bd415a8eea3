package store

import (
	"errors"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
)

// TestWriter: what one transaction may do to another. A job that fails, fails for no other writer of
// its transaction, nothing of it is in the file, and memory is told each time.
func TestWriter(t *testing.T) {
	db, err := Open(filepath.Join(t.TempDir(), "file"), "")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(`CREATE TABLE names(name TEXT PRIMARY KEY)`); err != nil {
		t.Fatal(err)
	}

	var mu sync.Mutex
	var atWork atomic.Int64
	rolledBack, committed := 0, 0
	w := NewWriter(db, &mu, &atWork, Hooks{
		Begin:      func() error { return nil },
		Finish:     func(*Tx) error { return nil },
		Committed:  func() { committed++ },
		RolledBack: func() error { rolledBack++; return nil },
	})
	names := NewRows(`INSERT INTO names(name) VALUES `, 1, "")
	bad := errors.New("bad")

	atWork.Store(100) // so that the writers share a transaction
	errs := make([]error, 50)
	var writers sync.WaitGroup
	for i := range errs {
		writers.Go(func() {
			errs[i] = w.Do(func(tx *Tx) error {
				if err := tx.Add(names, "", string(rune('A'+i))); err != nil {
					return err
				}
				if i == 7 {
					return bad
				}
				return nil
			})
		})
	}
	writers.Wait()
	w.Close()

	for i, err := range errs {
		if i == 7 && !errors.Is(err, bad) || i != 7 && err != nil {
			t.Errorf("writer %d: %v", i, err)
		}
	}
	if committed == 0 {
		t.Error("memory was not told of a transaction that is in the file")
	}
	if rolledBack == 0 {
		t.Error("memory was not told of a transaction that was rolled back")
	}
	var n int
	if err := db.QueryRow(`SELECT count(*) FROM names WHERE name <> 'H'`).Scan(&n); err != nil || n != 49 {
		t.Errorf("%d names, %v, want 49", n, err)
	}
	if err := db.QueryRow(`SELECT count(*) FROM names`).Scan(&n); err != nil || n != 49 {
		t.Errorf("%d names with that of the failed writer, %v, want 49", n, err)
	}
}
