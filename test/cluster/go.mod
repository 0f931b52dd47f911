// The real Kubernetes of the tests, in a module of its own: nothing of it is a dependency of Magpie's.
module github.com/magpie-k8s/magpie/test/cluster

go 1.26.0

require (
	github.com/vishvananda/netlink v1.3.1
	github.com/vishvananda/netns v0.0.5
	golang.org/x/sync v0.24.0
	golang.org/x/sys v0.49.0
)
