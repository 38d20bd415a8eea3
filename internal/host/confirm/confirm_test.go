package confirm_test

import (
	"context"
	"errors"
	"os"
	"sync"
	"testing"
	"time"

	"bellhop/internal/host/confirm"
)

const long = time.Hour // a window that no test outlives

func noSync(*os.File) error { return nil }

func open(t *testing.T, d time.Duration) (*confirm.Window, string) {
	t.Helper()
	dir := t.TempDir()
	w, err := confirm.Open(dir, d)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w, dir
}

func grant(t *testing.T, dir string, want bool) {
	t.Helper()
	if got, err := confirm.Grant(dir, noSync); got != want || err != nil {
		t.Errorf("Grant = %v, %v, want %v", got, err, want)
	}
}

func TestWaitHearsTheMark(t *testing.T) {
	w, dir := open(t, long)
	if !confirm.Waits(dir) || confirm.Is(dir) {
		t.Error("an open window does not wait, or is confirmed")
	}
	heard := make(chan bool)
	go func() {
		got, err := w.Wait(t.Context())
		heard <- got && err == nil
	}()
	grant(t, dir, true)
	if !<-heard {
		t.Error("Wait did not return true")
	}
	grant(t, dir, true) // twice is once
	if confirm.Waits(dir) || !confirm.Is(dir) {
		t.Error("a confirmed window waits, or is not confirmed")
	}
}

// A mark that came before the wait is no event, and counts all the same.
func TestWaitFindsTheMark(t *testing.T) {
	w, dir := open(t, long)
	grant(t, dir, true)
	if got, err := w.Wait(t.Context()); !got || err != nil {
		t.Errorf("Wait = %v, %v, want true", got, err)
	}
}

func TestWaitEnds(t *testing.T) {
	w, dir := open(t, time.Millisecond)
	if got, err := w.Wait(t.Context()); got || err != nil {
		t.Errorf("Wait = %v, %v, want false", got, err)
	}
	grant(t, dir, false)
}

func TestWaitIsGivenUp(t *testing.T) {
	w, dir := open(t, long)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(time.Millisecond, cancel)
	if got, err := w.Wait(ctx); got || !errors.Is(err, context.Canceled) {
		t.Errorf("Wait = %v, %v, want that it was cancelled", got, err)
	}
	if !confirm.Waits(dir) {
		t.Error("the window is closed, though nobody decided")
	}
}

// Who confirms and who goes back may come at the same moment. Exactly one of them is right.
func TestGrantAndDecideAgree(t *testing.T) {
	for range 200 {
		_, dir := open(t, long)
		var granted, decided bool
		var both sync.WaitGroup
		both.Go(func() { granted, _ = confirm.Grant(dir, noSync) })
		both.Go(func() { decided, _ = confirm.Decide(dir) })
		both.Wait()
		if granted != decided {
			t.Fatalf("Grant said %v, Decide said %v", granted, decided)
		}
	}
}

// What could not be made durable is not promised.
func TestGrantSaysWhatIsNotDurable(t *testing.T) {
	_, dir := open(t, long)
	full := errors.New("the disk is gone")
	if _, err := confirm.Grant(dir, func(*os.File) error { return full }); !errors.Is(err, full) {
		t.Errorf("Grant = %v, want %v", err, full)
	}
}

func TestDecideWhereNobodyWaited(t *testing.T) {
	if got, err := confirm.Decide(t.TempDir()); got || err != nil {
		t.Errorf("Decide = %v, %v, want false", got, err)
	}
	if _, err := confirm.Open("/no/such/folder", long); err == nil {
		t.Error("Open in a folder that is not there = nil")
	}
}
