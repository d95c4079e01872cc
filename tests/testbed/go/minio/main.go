// The MinIO server as a program of the test bed: the module's own command line, and nothing else.
package main

import (
	"os"

	"github.com/minio/minio/cmd"
)

func main() {
	cmd.Main(os.Args)
}
