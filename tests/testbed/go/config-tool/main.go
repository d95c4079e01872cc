// Command config-tool stands in for the programs around Milvus in its images, which the charts call by name: `cp` and `merge` of the
// config tool image, the script `run-helm.sh` in the same image, and the init process of the Milvus image. It goes by the name it is
// called under, and needs no shell.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"go.yaml.in/yaml/v3"
)

const (
	configs = "/milvus/configs/"
	target  = configs + "milvus.yaml"
)

func main() {
	var err error
	switch name := filepath.Base(os.Args[0]); name {
	case "cp":
		err = copyAll(os.Args[1:])
	case "merge":
		err = mergeArgs(os.Args[1:])
	case "run-helm.sh":
		err = runHelm(os.Args[1:])
	case "init":
		err = initProcess(os.Args[1:])
	default:
		err = fmt.Errorf("no program is called %s", name)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// copyAll takes two lists, separated by commas: files, and where they go.
func copyAll(args []string) error {
	if len(args) != 2 {
		return errors.New("usage: cp FROM[,FROM] TO[,TO]")
	}
	from, to := strings.Split(args[0], ","), strings.Split(args[1], ",")
	if len(from) != len(to) {
		return errors.New("cp: lists of different lengths")
	}
	for i := range from {
		if err := copyFile(from[i], to[i]); err != nil {
			return err
		}
	}
	return nil
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	return out.Close()
}

func mergeArgs(args []string) error {
	if len(args) != 4 || args[0] != "-s" || args[2] != "-d" {
		return errors.New("usage: merge -s SOURCE -d DESTINATION")
	}
	return mergeFile(args[1], args[3])
}

// mergeFile lays one YAML file over another.
func mergeFile(source, destination string) error {
	over, err := read(source)
	if err != nil {
		return err
	}
	base, err := read(destination)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	base = merge(base, over)
	dropOtherQueues(base)
	text, err := yaml.Marshal(base)
	if err != nil {
		return err
	}
	return os.WriteFile(destination, text, 0o644)
}

func read(path string) (map[string]any, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var value map[string]any
	return value, yaml.Unmarshal(text, &value)
}

func merge(base, over map[string]any) map[string]any {
	if base == nil {
		base = map[string]any{}
	}
	for key, value := range over {
		inner, isMap := value.(map[string]any)
		if below, ok := base[key].(map[string]any); ok && isMap {
			base[key] = merge(below, inner)
		} else {
			base[key] = value
		}
	}
	return base
}

// dropOtherQueues removes the sections of the queues that are not used: Milvus 2.2 takes Pulsar as soon as it has a section.
func dropOtherQueues(config map[string]any) {
	queue, ok := config["messageQueue"].(string)
	if !ok {
		return
	}
	for _, other := range []string{"pulsar", "kafka", "rocksmq", "natsmq"} {
		if other != queue {
			delete(config, other)
		}
	}
}

// runHelm lays the chart's configuration and the user's over that of the image, and becomes the program.
func runHelm(args []string) error {
	if len(args) == 0 {
		return errors.New("usage: run-helm.sh PROGRAM [ARGUMENT...]")
	}
	for _, name := range []string{"default.yaml", "user.yaml"} {
		if err := mergeFile(configs+name, target); err != nil {
			return err
		}
	}
	program, err := exec.LookPath(args[0])
	if err != nil {
		return err
	}
	return syscall.Exec(program, args, os.Environ())
}

// initProcess runs a program as its child, passes signals on and ends as it ends. A program that is the first process of its
// container ignores the signals that it does not handle, and Milvus is not the first one in its own image either.
func initProcess(args []string) error {
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		return errors.New("usage: init -- PROGRAM [ARGUMENT...]")
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT)
	child := exec.Command(args[0], args[1:]...)
	child.Stdout, child.Stderr = os.Stdout, os.Stderr
	if err := child.Start(); err != nil {
		return err
	}
	go func() {
		for one := range signals {
			// Only fails for a child that has ended.
			_ = child.Process.Signal(one)
		}
	}()
	err := child.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code := exit.ExitCode()
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			code = 128 + int(status.Signal())
		}
		os.Exit(code)
	}
	return err
}
