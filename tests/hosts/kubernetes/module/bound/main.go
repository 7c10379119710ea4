// Command bound says when pods have been bound, as an informer of client-go sees it: a list, and then a watch that is begun again
// where it breaks off, so that no event is lost.
//
// It reads lines of "PREFIX COUNT" and answers each, in order, with a line once so many pods whose names are PREFIX, a hyphen and a
// number have a node, all at the same time. Pods that are deleted do not count. It says "ready" first, when it has its first list.
package main

import (
	"bufio"
	"fmt"
	"log"
	"os"
	"strings"
	"sync"

	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

// tally counts the pods that have a node, by what their names begin with.
type tally struct {
	mu      sync.Mutex
	changed *sync.Cond
	bound   map[string]map[string]bool
}

func prefix(pod string) string { return pod[:max(0, strings.LastIndexByte(pod, '-'))] }

func (t *tally) see(object any) {
	pod, ok := object.(*v1.Pod)
	if !ok || pod.Spec.NodeName == "" {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	group := t.bound[prefix(pod.Name)]
	if group == nil {
		group = map[string]bool{}
		t.bound[prefix(pod.Name)] = group
	}
	group[pod.Name] = true
	t.changed.Signal()
}

func (t *tally) forget(object any) {
	if last, ok := object.(cache.DeletedFinalStateUnknown); ok {
		object = last.Obj
	}
	if pod, ok := object.(*v1.Pod); ok {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.bound[prefix(pod.Name)], pod.Name)
	}
}

func (t *tally) wait(prefix string, count int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.bound[prefix]) < count {
		t.changed.Wait()
	}
}

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: bound KUBECONFIG")
	}
	config, err := clientcmd.BuildConfigFromFlags("", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	config.ContentType = "application/vnd.kubernetes.protobuf"
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		log.Fatal(err)
	}
	t := &tally{bound: map[string]map[string]bool{}}
	t.changed = sync.NewCond(&t.mu)
	factory := informers.NewSharedInformerFactory(client, 0)
	handlers, err := factory.Core().V1().Pods().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: t.see, UpdateFunc: func(_, now any) { t.see(now) }, DeleteFunc: t.forget})
	if err != nil {
		log.Fatal(err)
	}
	factory.Start(nil)
	if !cache.WaitForCacheSync(nil, handlers.HasSynced) {
		log.Fatal("no list of pods")
	}
	fmt.Println("ready")
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var group string
		var count int
		if _, err := fmt.Sscanf(in.Text(), "%s %d", &group, &count); err != nil {
			log.Fatalf("%q: %v", in.Text(), err)
		}
		t.wait(group, count)
		fmt.Println(group, count)
	}
}
