// Package conformance links upstream's conformance tests of ClusterNetworkPolicy into a test binary.
package conformance
