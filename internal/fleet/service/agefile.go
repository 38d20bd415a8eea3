package service

import (
	"strings"

	"bellhop/internal/fleet/tree"
)

const (
	ageMagic = "age-encryption.org/v1\n"
	ageArmor = "-----BEGIN AGE ENCRYPTED FILE-----"
)

// AgeTrouble says what happened to an age file on its way through git: it is a pointer of LFS, or its line
// ends were changed; "" when nothing did. Whether it opens is not looked at.
func AgeTrouble(data []byte) string {
	s := string(data)
	if tree.NewBlob(data, false).LFS {
		return "a git-lfs pointer, not the file itself: bellhop does not fetch from LFS"
	}

	head := s
	if !strings.HasPrefix(strings.TrimSpace(s), ageArmor) {
		if i := strings.Index(s, "\n---"); i >= 0 && strings.HasPrefix(s, ageMagic[:len(ageMagic)-1]) {
			head = s[:i+4]
			if rest, _, ok := strings.Cut(s[i+1:], "\n"); ok {
				head = s[:i+1] + rest
			}
		} else {
			head = s[:min(len(s), len(ageMagic)+1)]
		}
	}

	if strings.Contains(head, "\r") {
		return "carriage returns in the age file: git changed its line ends; write `*.age binary` into .gitattributes and seal it anew"
	}

	return ""
}
