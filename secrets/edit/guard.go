package edit

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"

	"bellhop/internal/child"
)

// A guard is a process of its own that removes the plaintext when this one is killed. It
// waits at the end of a pipe that only this process holds open, so the kernel ends its read at every
// way out, SIGKILL and the OOM killer too. A file that has no name, or a mount that only this
// process sees, would need no guard; but an editor that runs already (code --wait, emacsclient)
// could not open it.
type guard struct {
	cmd     *exec.Cmd
	pipe    io.WriteCloser
	watches bool // the editor was named
}

// guardScript reads one line with the editor's process id, then waits: another line means that
// all is done, the end of the pipe that this process is gone. It looks twice more after that, since
// an editor that is asked to end may save what it has (nano does), and one that does not end may make
// the folder again (VS Code does).
const guardScript = `trap '' HUP INT QUIT TERM TSTP
cd /
read -r editor
read -r done && exit 0
rm -rf -- "$1"
[ -z "$editor" ] || kill -HUP "$editor"
sleep 1
rm -rf -- "$1"
[ -z "$editor" ] || kill -KILL "$editor"
sleep 4
rm -rf -- "$1"`

// startGuard starts the guard of a folder. It has a session of its own: what ends a terminal does not
// end it.
func startGuard(dir string) (*guard, error) {
	cmd := exec.Command("sh", "-c", guardScript, "sh", dir)
	cmd.Env = child.Env(nil)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the process that removes the plaintext if this one is killed: %w", err)
	}
	return &guard{cmd: cmd, pipe: pipe}, nil
}

// watch names the editor, which ends with this process.
func (g *guard) watch(editor *os.Process) {
	g.watches = true
	fmt.Fprintln(g.pipe, editor.Pid)
}

// release ends the guard: the folder is gone.
func (g *guard) release() {
	if !g.watches {
		fmt.Fprintln(g.pipe)
	}
	fmt.Fprintln(g.pipe, "done")
	g.pipe.Close()
	_ = g.cmd.Wait()
}
