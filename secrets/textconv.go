package secrets

import (
	"fmt"
	"io"
	"strings"

	"bellhop/secrets/agefile"
)

// Textconv writes what `git diff` should compare: the value, if one of the identities opens the
// file, else one line that says who it is sealed for. It does not fail for that: git would show no
// diff at all. It changes nothing and is for a person's terminal:
//
//	git config diff.bellhop.textconv "bellhop secret textconv"
//	echo "secrets/*.age diff=bellhop" >> .gitattributes
func Textconv(w io.Writer, name string, data []byte, ids *agefile.Identities, rules Rules) error {
	v, err := ids.Open(name, data)
	if err == nil {
		defer clear(v)
		_, err = w.Write(v)
		return err
	}

	line := "(not opened: " + strings.TrimPrefix(err.Error(), "open "+name+": ") + ")"
	if a, aerr := agefile.Readers(data); aerr == nil {
		line = fmt.Sprintf("(sealed for %s", a.Kinds())
		if a.Known {
			line += ": " + strings.Join(rules.names(a.Readers), ", ")
		}
		line += "; not opened here)"
	}

	_, err = fmt.Fprintln(w, line)
	return err
}
