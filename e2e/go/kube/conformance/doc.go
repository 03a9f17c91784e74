// Package conformance links the specs of SIG Network, and no others, into a test binary: `go test -c` of this package is
// upstream's e2e.test at a tenth of its size.
package conformance
