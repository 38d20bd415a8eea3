package bare

import (
	"os"
	"path/filepath"

	"bellhop/internal/durable"
)

// Init makes what is missing of an empty bare repository. Another branch than last time
// forgets the old one's head.
func Init(dir, branch string) error {
	for _, d := range []string{"objects/pack", "objects/info", "refs/heads", "refs/bellhop"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			return err
		}
	}

	head := filepath.Join(dir, "HEAD")
	want := "ref: refs/heads/" + branch + "\n"
	if got, err := os.ReadFile(head); err != nil || string(got) != want {
		if err == nil {
			os.RemoveAll(filepath.Join(dir, "refs", "heads"))
			if err := os.MkdirAll(filepath.Join(dir, "refs", "heads"), 0o700); err != nil {
				return err
			}
		}
		if err := durable.Write(head, []byte(want), 0o600); err != nil {
			return err
		}
	}

	config := filepath.Join(dir, "config")
	if _, err := os.Stat(config); err == nil {
		return nil
	}
	return durable.Write(config, []byte("[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n"), 0o600)
}
