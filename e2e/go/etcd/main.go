// Command etcd is etcd's server. Distributions ship 3.4, which answers the API server's streaming lists with an error.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() {
	etcdmain.Main(os.Args)
}
