package scheduler

import (
	"sort"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"thole.dev/kubernetes/core"
	"thole.dev/kubernetes/gang"
)

// mirror is the ledger's view of the nodes: what changes is told to the ledger as it changes, and nothing is built anew for
// a decision. The book's lock protects it.
type mirror struct {
	core       *ledger
	levels     []gang.Level
	nodes      map[string]*node
	foreign    map[types.UID]foreign
	admissions map[string]*admission
	changes    uint64 // grows with everything that may make room
}

type node struct {
	object  *v1.Node
	cpu     uint64 // thousandths of a core that pods hold which are not in the ledger
	memory  uint64 // MiB
	spoiled int    // pods that hold devices of ours of which nobody knows which
}

// foreign is a pod on a node that the ledger does not hold.
type foreign struct {
	node        string
	cpu, memory uint64
	spoils      bool
}

// admission is a set of nodes that the ledger knows as a label, for as long as pods ask for it.
type admission struct {
	gang.Admission
	used time.Time
}

const mostAdmissions = 128 // a node takes 256 labels

func (m *mirror) setNode(object *v1.Node) {
	n := m.nodes[object.Name]
	if n == nil {
		n = &node{}
		m.nodes[object.Name] = n
	}
	n.object = object
	m.tell(n)
}

func (m *mirror) removeNode(name string) {
	if n := m.nodes[name]; n != nil {
		n.object = nil
		if err := m.core.RemoveNode(name); err != nil {
			klog.ErrorS(err, "The ledger did not forget a node", "node", name)
		}
		if n.cpu == 0 && n.memory == 0 && n.spoiled == 0 {
			delete(m.nodes, name)
		}
	}
}

// tell gives the ledger what is known of nodes.
func (m *mirror) tell(nodes ...*node) {
	var all []core.Node
	for _, n := range nodes {
		if n.object != nil {
			all = append(all, m.described(n))
		}
	}
	m.changes++
	if len(all) == 0 {
		return
	}
	err := m.core.SetNodes(all)
	if err == nil {
		return
	}
	// One bad node must not keep the others out: each is told alone, a bad one without its GPUs.
	for i := range all {
		if err := m.core.SetNodes(all[i : i+1]); err != nil {
			klog.ErrorS(err, "The ledger refuses a node's GPUs: nothing is placed on them", "node", all[i].Name)
			all[i].GPUs = nil
			if err := m.core.SetNodes(all[i : i+1]); err != nil {
				klog.ErrorS(err, "The ledger refuses a node", "node", all[i].Name)
			}
		}
	}
}

func (m *mirror) described(n *node) core.Node {
	gpus, err := gang.GPUsOf(n.object)
	if err != nil {
		klog.ErrorS(err, "A node's GPUs are not known", "node", n.object.Name)
	}
	out := core.Node{Name: n.object.Name, Domains: gang.DomainsOf(n.object, m.levels), GPUs: gpus, Cordoned: n.spoiled > 0}
	allocatable := n.object.Status.Allocatable
	if cpu := uint64(allocatable.Cpu().MilliValue()); cpu > n.cpu {
		out.CPUMilli = cpu - n.cpu
	}
	if memory := uint64(allocatable.Memory().Value()) >> 20; memory > n.memory {
		out.MemoryMiB = memory - n.memory
	}
	for label, a := range m.admissions {
		if a.Admits(n.object) {
			out.Labels = append(out.Labels, label)
		}
	}
	sort.Strings(out.Labels)
	return out
}

// addForeign counts what a pod takes that the ledger does not hold. Again: nothing changes.
func (m *mirror) addForeign(pod *v1.Pod, nodeName string, spoils bool) {
	cpu, memory := gang.Sizes(pod)
	f := foreign{nodeName, cpu, memory, spoils}
	if m.foreign[pod.UID] == f {
		return
	}
	m.removeForeign(pod.UID)
	n := m.nodes[nodeName]
	if n == nil {
		n = &node{}
		m.nodes[nodeName] = n
	}
	m.foreign[pod.UID] = f
	n.cpu, n.memory = n.cpu+cpu, n.memory+memory
	if spoils {
		n.spoiled++
	}
	m.tell(n)
}

func (m *mirror) removeForeign(uid types.UID) {
	f, known := m.foreign[uid]
	if !known {
		return
	}
	delete(m.foreign, uid)
	n := m.nodes[f.node]
	n.cpu, n.memory = n.cpu-f.cpu, n.memory-f.memory
	if f.spoils {
		n.spoiled--
	}
	m.tell(n)
	if n.object == nil && n.cpu == 0 && n.memory == 0 && n.spoiled == 0 {
		delete(m.nodes, f.node)
	}
}

// admit makes the label of an admission known to the ledger.
func (m *mirror) admit(a gang.Admission, now time.Time) {
	if known := m.admissions[a.Label]; known != nil {
		known.used = now
		return
	}
	if len(m.admissions) == mostAdmissions {
		m.forgetOldest()
	}
	m.admissions[a.Label] = &admission{a, now}
	var changed []*node
	for _, n := range m.nodes {
		if n.object != nil && a.Admits(n.object) {
			changed = append(changed, n)
		}
	}
	m.tell(changed...)
}

// forgetOldest takes half of the labels away. Whoever still asks for one of them brings it back.
func (m *mirror) forgetOldest() {
	labels := make([]string, 0, len(m.admissions))
	for label := range m.admissions {
		labels = append(labels, label)
	}
	sort.Slice(labels, func(i, j int) bool { return m.admissions[labels[i]].used.Before(m.admissions[labels[j]].used) })
	for _, label := range labels[:len(labels)/2] {
		delete(m.admissions, label)
	}
	var all []*node
	for _, n := range m.nodes {
		all = append(all, n)
	}
	m.tell(all...)
}
