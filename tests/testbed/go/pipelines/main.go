// Command pipelines has the evaluators that tools for deployment run on our examples, one under each name it is called by:
//
//	actionlint ARGS...            the checker of workflows for GitHub Actions, as its own main makes it
//	argo-health SCRIPT < OBJECT   a health check of Argo CD: the Lua and the libraries that it has, the result as JSON
//	hcl-check FILE                reads a file of Terraform, and prints its blocks of resources as JSON: {"TYPE.NAME": [attributes]}
//	flux-health EXPRS < OBJECT    a health check of Flux: its evaluator for the expressions in the file (JSON), the status as a word
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/fluxcd/pkg/apis/kustomize"
	"github.com/fluxcd/pkg/runtime/cel"
	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/rhysd/actionlint"
	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	luajson "layeh.com/gopher-json"
)

func main() {
	var err error
	switch name := filepath.Base(os.Args[0]); name {
	case "actionlint":
		command := actionlint.Command{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
		os.Exit(command.Main(os.Args))
	case "argo-health":
		err = argo()
	case "hcl-check":
		err = terraform()
	case "flux-health":
		err = flux()
	default:
		err = fmt.Errorf("%s is not a name of this program", name)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// inputs are the file that is named, and the object on standard input.
func inputs() ([]byte, *unstructured.Unstructured, error) {
	if len(os.Args) != 2 {
		return nil, nil, fmt.Errorf("one file is needed")
	}
	text, err := os.ReadFile(os.Args[1])
	if err != nil {
		return nil, nil, err
	}
	input, err := io.ReadAll(os.Stdin)
	if err != nil {
		return nil, nil, err
	}
	object := &unstructured.Unstructured{}
	return text, object, object.UnmarshalJSON(input)
}

// argo runs a script as Argo CD does by default: base, package and table libraries, without string, io and os.
func argo() error {
	script, object, err := inputs()
	if err != nil {
		return err
	}
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for _, library := range []struct {
		name string
		open lua.LGFunction
	}{
		{lua.LoadLibName, lua.OpenPackage},
		{lua.BaseLibName, lua.OpenBase},
		{lua.TabLibName, lua.OpenTable},
	} {
		call := lua.P{Fn: state.NewFunction(library.open), Protect: true}
		if err := state.CallByParam(call, lua.LString(library.name)); err != nil {
			return err
		}
	}
	// Whole numbers as Argo CD passes them, which luajson alone would drop.
	encodedObject, err := object.MarshalJSON()
	if err != nil {
		return err
	}
	value, err := luajson.Decode(state, encodedObject)
	if err != nil {
		return err
	}
	state.SetGlobal("obj", value)
	if err := state.DoString(string(script)); err != nil {
		return err
	}
	result := state.Get(-1)
	if result.Type() != lua.LTTable {
		return fmt.Errorf("the script returns %s instead of a table", result.Type())
	}
	encoded, err := luajson.Encode(result)
	if err != nil {
		return err
	}
	fmt.Println(string(encoded))
	return nil
}

func terraform() error {
	if len(os.Args) != 2 {
		return fmt.Errorf("one file is needed")
	}
	file, diagnostics := hclparse.NewParser().ParseHCLFile(os.Args[1])
	if diagnostics.HasErrors() {
		return diagnostics
	}
	resources := map[string][]string{}
	for _, block := range file.Body.(*hclsyntax.Body).Blocks {
		if block.Type != "resource" {
			continue
		}
		for name := range block.Body.Attributes {
			key := strings.Join(block.Labels, ".")
			resources[key] = append(resources[key], name)
		}
	}
	return json.NewEncoder(os.Stdout).Encode(resources)
}

func flux() error {
	text, object, err := inputs()
	if err != nil {
		return err
	}
	var expressions kustomize.HealthCheckExpressions
	if err := json.Unmarshal(text, &expressions); err != nil {
		return err
	}
	evaluator, err := cel.NewStatusEvaluator(&expressions)
	if err != nil {
		return err
	}
	result, err := evaluator.Evaluate(context.Background(), object)
	if err != nil {
		return err
	}
	fmt.Println(result.Status)
	return nil
}
