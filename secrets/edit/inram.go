package edit

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// InRAM runs the editor on a copy of value, in a file of that name in RAM, and returns what it saved: at
// most limit bytes and one, so that the caller sees what is too large. Nothing is left of the copy on any
// way out. A signal is ErrInterrupted; a system without a folder in RAM is ErrNoRAM.
func InRAM(name string, value []byte, limit int64, e Editor) ([]byte, error) {
	// Signals first: from here on none may end us before the folder is gone.
	signals, release := catch()
	defer release()
	dir, err := newRAMDir()
	if err != nil {
		return nil, err
	}

	guard, err := startGuard(dir)
	if err != nil {
		os.Remove(dir)
		return nil, err
	}
	defer guard.release() // after the folder is wiped
	defer wipe(dir)

	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, value, 0o600); err != nil {
		return nil, fmt.Errorf("write the copy in RAM: %w", bareError(err))
	}
	if err := e.run(dir, file, guard, signals); err != nil {
		return nil, err
	}

	select {
	case <-signals:
		return nil, ErrInterrupted
	default:
	}

	saved, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read what the editor saved: %w", bareError(err))
	}
	defer saved.Close()
	after, err := io.ReadAll(io.LimitReader(saved, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read what the editor saved: %w", bareError(err))
	}

	return after, nil
}

// bareError takes the path out of an error: it is a name in RAM that nobody knows.
func bareError(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
