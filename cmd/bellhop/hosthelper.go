package main

import (
	"io"

	"bellhop/internal/host/helper"
	"bellhop/internal/host/real"
)

// hostHelper is the program that bellhop runs on a host, hidden in bellhop itself: a
// deployer of the same system and architecture pushes its own executable.
func hostHelper(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	return helper.Main(args, stdin, stdout, stderr, real.Machine)
}
