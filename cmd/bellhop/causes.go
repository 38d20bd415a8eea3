package main

import (
	"fmt"
	"io"
	"strings"

	"bellhop/internal/causes"
)

// printCauses prints a line or more for each cause, with the names of its hosts before it.
func printCauses(w io.Writer, p paint, indent string, all []causes.Cause) {
	const most = 8
	for _, c := range all {
		names := make([]string, 0, most+1)
		for i, host := range c.Hosts {
			if i == most {
				names = append(names, fmt.Sprintf("and %d more", len(c.Hosts)-most))
				break
			}
			names = append(names, p.red(host))
		}
		fmt.Fprintf(w, "%s%s: %s\n", indent, strings.Join(names, ", "), indentRest(c.Text, indent+"  "))
	}
}
