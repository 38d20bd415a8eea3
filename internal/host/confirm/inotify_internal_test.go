package confirm

import (
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A host may have no inotify instance left for root. The mark is found all the same.
func TestWaitWithoutInotify(t *testing.T) {
	dir := t.TempDir()
	w, err := Open(dir, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	unix.Close(w.notify)
	w.notify = -1

	heard := make(chan bool)
	go func() {
		got, err := w.Wait(t.Context())
		heard <- got && err == nil
	}()
	if _, err := Grant(dir, func(*os.File) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if !<-heard {
		t.Error("Wait did not return true")
	}
}
