// Command helm is Helm 4 as its own main makes it, but for one thing: it calls itself by the name it was started under. Tools
// that have Helm built in differ from it in that name, which is the field manager of all that they write.
package main

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"

	_ "k8s.io/client-go/plugin/pkg/client/auth"

	"helm.sh/helm/v4/pkg/cmd"
	"helm.sh/helm/v4/pkg/kube"
)

func main() {
	kube.ManagedFieldsManager = filepath.Base(os.Args[0])
	root, err := cmd.NewRootCmd(os.Stdout, os.Args[1:], cmd.SetupLogging)
	if err != nil {
		slog.Warn("command failed", slog.Any("error", err))
		os.Exit(1)
	}
	if err := root.Execute(); err != nil {
		if failed, ok := errors.AsType[cmd.CommandError](err); ok {
			os.Exit(failed.ExitCode)
		}
		os.Exit(1)
	}
}
