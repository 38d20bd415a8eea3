package edit

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"bellhop/internal/child"
)

// ErrInterrupted says that a signal ended the editing. Nothing was written.
var ErrInterrupted = errors.New("interrupted; nothing was written")

// An Editor says how a person edits.
type Editor struct {
	Command string // "vim", "code --wait", as in $EDITOR; empty: $VISUAL, $EDITOR, then vi
	Stdin   io.Reader
	Stdout  io.Writer
	Stderr  io.Writer
}

func (e Editor) command() string {
	return cmp.Or(e.Command, os.Getenv("VISUAL"), os.Getenv("EDITOR"), "vi")
}

// leftovers are arguments that keep editors from writing copies elsewhere: swap, undo and backup
// files, histories, registers. They come after the user's own arguments, and before the file.
var leftovers = map[string][]string{
	"vim": {"-n",
		"--cmd", "silent! set noswapfile nobackup nowritebackup noundofile | silent! set viminfo=",
		"-c", "silent! set noswapfile nobackup nowritebackup noundofile | silent! set viminfo="},
	"nvim": {"-n", "-i", "NONE",
		"--cmd", "set noswapfile nobackup nowritebackup noundofile shada=",
		"-c", "set noswapfile nobackup nowritebackup noundofile shada="},
	"emacs":  {"--eval", "(setq make-backup-files nil auto-save-default nil create-lockfiles nil auto-save-list-file-prefix nil version-control nil backup-inhibited t)"},
	"nano":   {"--ignorercfiles"},
	"micro":  {"-backup", "false", "-permbackup", "false", "-savehistory", "false", "-savecursor", "false", "-saveundo", "false"},
	"joe":    {"-nobackups"},
	"mcedit": {"--nosubshell"},
}

// quiet finds the arguments for an editor by its program: vi may be vim by way of a link or two.
func quiet(command string) []string {
	fields := strings.Fields(command)
	if len(fields) == 0 {
		return nil
	}

	names := []string{filepath.Base(fields[0])}
	if p, err := exec.LookPath(fields[0]); err == nil {
		if p, err = filepath.EvalSymlinks(p); err == nil {
			names = append(names, filepath.Base(p))
		}
	}

	for _, n := range names {
		base, _, _ := strings.Cut(n, ".")   // vim.basic, vim.tiny
		base, _, _ = strings.Cut(base, "-") // emacs-nox
		switch base {
		case "gvim", "mvim", "vimx", "view":
			base = "vim"
		}

		if args := leftovers[base]; args != nil {
			return args
		}
	}

	return nil
}

// run edits one file. The command goes through sh, as git does it, so that arguments and quotes
// in $EDITOR work; the file's name and our arguments are passed beside it, never pasted into it.
// Its temporary files go to dir.
func (e Editor) run(dir, file string, guard *guard, signals <-chan os.Signal) error {
	command := e.command()
	args := append([]string{"-c", shellLine(command), command}, quiet(command)...)
	cmd := exec.Command("sh", append(args, file)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = e.Stdin, e.Stdout, e.Stderr
	cmd.Dir = dir
	cmd.Env = append(child.Env(child.Editor), "TMPDIR="+dir, "TMP="+dir, "TEMP="+dir)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the editor: %w", err)
	}

	guard.watch(cmd.Process)
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("the editor %q ended with an error (%v); nothing was written", command, err)
		}
		return nil
	case sig := <-signals:
		return stop(cmd, sig, done)
	}
}

// shellLine lets the editor take the shell's place where it can, so that signals reach it.
func shellLine(command string) string {
	line := command + ` "$@"`
	if first, _, _ := strings.Cut(command, " "); strings.Contains(first, "=") || strings.ContainsAny(command, ";|&()`\n") {
		return line // an assignment or more than one command: exec would not do
	}
	return "exec " + line
}

// stop passes the signal on and gives the editor a moment to leave the terminal in order.
func stop(cmd *exec.Cmd, sig os.Signal, done <-chan error) error {
	_ = cmd.Process.Signal(sig)
	select {
	case <-done:
	case <-time.After(2 * time.Second):
		_ = cmd.Process.Kill()
		<-done
	}

	return ErrInterrupted
}

// catch collects the signals that would end us before the plaintext is gone.
func catch() (signals chan os.Signal, release func()) {
	signals = make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	return signals, func() { signal.Stop(signals) }
}
