package gang

import (
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"thole.dev/kubernetes/core"
	"thole.dev/kubernetes/names"
)

func pod(name string, resources map[v1.ResourceName]string, change ...func(*v1.Pod)) *v1.Pod {
	list := v1.ResourceList{}
	for k, v := range resources {
		list[k] = resource.MustParse(v)
	}
	p := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "n", UID: "u-" + "1", Labels: map[string]string{}, Annotations: map[string]string{}},
		Spec: v1.PodSpec{Containers: []v1.Container{{Name: "main", Resources: v1.ResourceRequirements{Requests: list, Limits: list}}}}}
	for _, c := range change {
		c(p)
	}
	return p
}

func TestDemands(t *testing.T) {
	vgpu := map[v1.ResourceName]string{names.VGPUMemory: "10240", names.VGPUShare: "250", "cpu": "250m", "memory": "512Mi"}
	d, err := DemandOf(pod("a", vgpu))
	if err != nil || d.Kind != core.VGPU || d.Devices != 1 || d.VGPUMemoryMiB != 10240 || d.ShareMilli != 250 || d.CPUMilli != 250 || d.MemoryMiB != 512 {
		t.Errorf("%+v %v", d, err)
	}
	d, err = DemandOf(pod("a", vgpu, func(p *v1.Pod) { p.Annotations[names.VGPUs] = "2" }))
	if err != nil || d.Devices != 2 || d.VGPUMemoryMiB != 5120 || d.ShareMilli != 125 {
		t.Errorf("%+v %v", d, err)
	}
	d, err = DemandOf(pod("a", map[v1.ResourceName]string{names.GPU: "2", "memory": "1"}))
	if err != nil || d.Kind != core.Whole || d.Devices != 2 || d.MemoryMiB != 1 {
		t.Errorf("%+v %v", d, err)
	}
	always := v1.ContainerRestartPolicyAlways
	d, err = DemandOf(pod("a", vgpu, func(p *v1.Pod) {
		large := v1.ResourceList{"memory": resource.MustParse("2Gi")}
		side := v1.ResourceList{"memory": resource.MustParse("1Gi")}
		p.Spec.InitContainers = []v1.Container{{Resources: v1.ResourceRequirements{Requests: side}, RestartPolicy: &always},
			{Resources: v1.ResourceRequirements{Requests: large}}}
	}))
	if err != nil || d.MemoryMiB != 3072 {
		t.Errorf("an init container of 2 Gi beside a sidecar of 1 Gi: %+v %v", d, err)
	}
}

func TestBadDemands(t *testing.T) {
	bad := []struct {
		resources map[v1.ResourceName]string
		key, text string // an annotation
		want      string
	}{
		{map[v1.ResourceName]string{names.GPU: "1", names.VGPUMemory: "1"}, "", "", "not for both"},
		{map[v1.ResourceName]string{names.VGPUShare: "100"}, "", "", "needs its memory"},
		{map[v1.ResourceName]string{names.VGPUMemory: "10", names.VGPUShare: "1001"}, "", "", "1000 at most"},
		{map[v1.ResourceName]string{names.VGPUMemory: "5"}, names.VGPUs, "2", "must divide"},
		{map[v1.ResourceName]string{names.VGPUMemory: "5"}, names.VGPUs, "0", "from 1 to 65535"},
		{map[v1.ResourceName]string{names.VGPUMemory: "5"}, names.RoleTopology, "rack", "not a JSON list"},
		{map[v1.ResourceName]string{names.VGPUMemory: "5"}, names.RoleTopology, `[{"level":"rack","mode":"best"}]`, "required or preferred"},
	}
	refused := 0
	for _, b := range bad {
		_, err := DemandOf(pod("a", b.resources, func(p *v1.Pod) {
			if b.key != "" {
				p.Annotations[b.key] = b.text
			}
		}))
		if err == nil || !strings.Contains(err.Error(), b.want) {
			t.Errorf("%+v: %v", b, err)
			continue
		}
		refused++
	}
	t.Logf("%d of %d bad demands refused", refused, len(bad))
}

func TestAdmission(t *testing.T) {
	node := &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: "a", Labels: map[string]string{"disk": "ssd"}},
		Spec: v1.NodeSpec{Taints: []v1.Taint{{Key: "gpu", Value: "true", Effect: v1.TaintEffectNoSchedule}}}}
	plain := pod("p", nil)
	tolerant := pod("p", nil, func(p *v1.Pod) {
		p.Spec.Tolerations = []v1.Toleration{{Key: "gpu", Operator: v1.TolerationOpExists, Effect: v1.TaintEffectNoSchedule}}
		p.Spec.NodeSelector = map[string]string{"disk": "ssd"}
	})
	if AdmissionOf(plain).Admits(node) || !AdmissionOf(tolerant).Admits(node) || AdmissionOf(tolerant, "a").Admits(node) {
		t.Error("taints, selectors or avoided nodes do not count")
	}
	cordoned := node.DeepCopy()
	cordoned.Spec.Unschedulable = true
	if AdmissionOf(tolerant).Admits(cordoned) {
		t.Error("a cordoned node admits")
	}
	if a, b := AdmissionOf(tolerant).Label, AdmissionOf(plain).Label; a == b || !strings.HasPrefix(a, "disk=ssd, no taint but") {
		t.Error(a, b)
	}
	seconds := int64(300)
	lost := pod("p", nil, func(p *v1.Pod) {
		p.Spec.Tolerations = []v1.Toleration{{Key: v1.TaintNodeNotReady, Operator: v1.TolerationOpExists, Effect: v1.TaintEffectNoExecute, TolerationSeconds: &seconds}}
	})
	if AdmissionOf(lost).Label != AdmissionOf(plain).Label {
		t.Error("what the API server adds to every pod makes another label")
	}
}

func TestRequests(t *testing.T) {
	var members []Member
	add := func(name, role, index string, d Demand) {
		p := pod(name, nil, func(p *v1.Pod) { p.Labels[names.Role], p.Labels[names.Member] = role, index })
		members = append(members, Member{p, d})
	}
	large, small := Demand{Kind: core.VGPU, Devices: 1, VGPUMemoryMiB: 8192}, Demand{CPUMilli: 100}
	add("w-10", "worker", "10", large)
	add("w-2", "worker", "2", large)
	add("head", "head", "0", small)
	add("w-11", "worker", "11", small)
	r, err := RequestOf(core.ID{Hi: 1}, members, 3)
	if err != nil || len(r.Roles) != 2 || r.Roles[0].Name != "head" || r.Roles[1].Members != 2 || r.Roles[1].MinMembers != 2 {
		t.Fatalf("%+v %v", r, err)
	}
	if r.Pods[1][0].Name != "w-2" || r.Pods[1][1].Name != "w-10" {
		t.Error("members do not come in the order of their numbers")
	}
	// The fourth is not needed, and as small as the head: it joins that role, beyond its minimum.
	if r.Roles[0].Members != 2 || r.Roles[0].MinMembers != 1 {
		t.Errorf("%+v", r.Roles[0])
	}
	var many []Member
	for i := range MostRoles + 1 {
		many = append(many, Member{pod("p", nil), Demand{CPUMilli: uint64(i)}})
	}
	if _, err := RequestOf(core.ID{Hi: 1}, many, len(many)); err == nil {
		t.Error("17 kinds of pods are taken")
	}
}

func TestKeysAndSizes(t *testing.T) {
	p := pod("p", nil)
	if KeyOf(p).Source != Alone {
		t.Error(KeyOf(p))
	}
	p.Labels[names.PodGroup] = "theirs"
	if KeyOf(p) != (Key{PodGroup, "n", "theirs"}) {
		t.Error(KeyOf(p))
	}
	p.Labels[names.Gang] = "g"
	if KeyOf(p) != (Key{Ours, "n", "g"}) || KeyOf(p).ID(0) == KeyOf(p).ID(1) {
		t.Error(KeyOf(p))
	}
	if _, err := SizeOnPod(p); err == nil {
		t.Error("a gang without a size is taken")
	}
	p.Annotations[names.GangSize] = "4"
	if n, err := SizeOnPod(p); n != 4 || err != nil {
		t.Error(n, err)
	}
}

func TestAllocationsAreReadBack(t *testing.T) {
	p := pod("p", nil)
	p.Spec.NodeName = "a"
	p.Annotations[names.Allocation] = `{"gang":"00000000000000010000000000000002","generation":3,"role":"w","node":"a","grants":[{"uuid":"SIM-1","kind":2,"memoryMiB":5}]}`
	a, err := AllocationOf(p)
	if err != nil || len(a.Grants) != 1 || a.Grants[0].Kind != core.VGPU {
		t.Fatal(a, err)
	}
	if id, err := a.ID(); err != nil || id != (core.ID{Hi: 1, Lo: 2}) {
		t.Error(id, err)
	}
	p.Spec.NodeName = "b"
	if _, err := AllocationOf(p); err == nil {
		t.Error("an allocation for another node is taken")
	}
}
