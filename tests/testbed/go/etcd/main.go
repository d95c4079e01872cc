// Command etcd holds etcd and etcdctl in one binary and picks the program by the name it was called under, or by its first argument.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"go.etcd.io/etcd/etcdctl/v3/ctlv3"
	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() {
	name := filepath.Base(os.Args[0])
	if len(os.Args) > 1 && (os.Args[1] == "etcd" || os.Args[1] == "etcdctl") {
		name = os.Args[1]
		os.Args = os.Args[1:]
	}
	switch name {
	case "etcd":
		etcdmain.Main(os.Args)
	case "etcdctl":
		ctlv3.MustStart()
	default:
		fmt.Fprintln(os.Stderr, "usage: etcd etcd|etcdctl [flags]")
		os.Exit(2)
	}
}
