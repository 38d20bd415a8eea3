package unitfile

import "strings"

func checkAbsolute(value string) *valueError {
	if strings.HasPrefix(value, "/") {
		return nil
	}

	return want("want an absolute path")
}

func checkAbsolutes(value string) *valueError {
	list, err := Words(value)
	if err != nil {
		return want("%v", err)
	}

	for _, path := range list {
		if !strings.HasPrefix(path, "/") {
			return want("%q is no absolute path", path)
		}
	}

	return nil
}

// checkPrefixed checks paths that "-" (it may be missing) and "+" (below RootDirectory=) may precede.
func checkPrefixed(value string) *valueError {
	list, err := CommandWords(value)
	if err != nil {
		return want("%v", err)
	}

	for _, word := range list {
		path := strings.TrimPrefix(strings.TrimPrefix(word, "-"), "+")
		if !strings.HasPrefix(path, "/") {
			return want("%q is no absolute path", word)
		}
	}

	return nil
}

func checkEnvironmentFile(value string) *valueError {
	return checkAbsolute(strings.TrimPrefix(value, "-"))
}

func checkWorkingDirectory(value string) *valueError {
	path, optional := strings.CutPrefix(value, "-")
	if path == "~" || strings.HasPrefix(path, "/") {
		return nil
	}

	e := want("want an absolute path or ~")
	e.fatal = !optional
	return e
}

// checkRelative checks the names of StateDirectory= and its kin; what follows ":" is a link.
func checkRelative(value string) *valueError {
	list, err := Words(value)
	if err != nil {
		return want("%v", err)
	}

	for _, word := range list {
		path, _, _ := strings.Cut(word, ":")
		if strings.HasPrefix(path, "/") {
			return want("%q is absolute: systemd puts it below its own folder, so leave that away", path)
		}
		for _, part := range strings.Split(path, "/") {
			if part == ".." {
				return want("%q leaves the folder", path)
			}
		}
	}

	return nil
}
