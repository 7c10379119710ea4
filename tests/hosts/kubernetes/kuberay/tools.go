//go:build tools

// Package tools names KubeRay's operator. It has a module of its own, with the versions that its own go.mod asks for, so that
// the operator of the tests is the one that others run.
package tools

import _ "github.com/ray-project/kuberay/ray-operator"
