// Command bellhop-host is the helper that bellhop runs on a host for the length of one
// deploy. It says hello over its own input and output, takes a bundle, and makes the host
// hold it; people never call it by hand.
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0
package main

import (
	"os"

	"bellhop/internal/host/helper"
	"bellhop/internal/host/real"
)

func main() {
	os.Exit(helper.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr, real.Machine))
}
