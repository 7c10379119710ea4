package scheduler

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"
	frameworkruntime "k8s.io/kubernetes/pkg/scheduler/framework/runtime"

	"thole.dev/kubernetes/core"
	"thole.dev/kubernetes/gang"
)

// Name of the plugin in a scheduler's configuration.
const Name = "Thole"

// Args are the plugin's arguments (pluginConfig). Profiles of one process share one ledger: their arguments must be equal.
type Args struct {
	Library            string       `json:"library,omitempty"` // path of libthole.so.0; THOLE_LIBRARY without it
	Levels             []gang.Level `json:"levels,omitempty"`  // of the topology, outermost first
	GangTimeoutSeconds int          `json:"gangTimeoutSeconds,omitempty"`
	Notes              string       `json:"notes,omitempty"`   // a folder that outlives the process; see aside
	Journal            string       `json:"journal,omitempty"` // a folder for the ledger's journals; see journal
}

const defaultTimeout = 60 * time.Second

// shared is the one ledger of the process, whatever the number of profiles.
var shared struct {
	sync.Mutex
	book     *book
	groups   groups
	profiles map[string]bool
	synced   []cache.InformerSynced
}

// New makes the plugin of one profile.
func New(ctx context.Context, given runtime.Object, handle fwk.Handle) (fwk.Plugin, error) {
	var args Args
	if err := frameworkruntime.DecodeInto(given, &args); err != nil {
		return nil, fmt.Errorf("arguments of plugin %s: %w", Name, err)
	}
	shared.Lock()
	defer shared.Unlock()
	if shared.book == nil {
		if err := open(ctx, args, handle); err != nil {
			return nil, err
		}
	}
	shared.profiles[handle.ProfileName()] = true
	return &Plugin{handle: handle, book: shared.book, groups: shared.groups, synced: shared.synced}, nil
}

func open(ctx context.Context, args Args, handle fwk.Handle) error {
	c, err := core.Open(args.Library, func(level int, component, message string) {
		if level >= 3 {
			klog.ErrorS(errors.New(message), "Thole", "component", component)
		} else {
			klog.V(2).InfoS(message, "component", component)
		}
	})
	if err != nil {
		return err
	}
	levels := make([]string, len(args.Levels))
	for i, l := range args.Levels {
		levels[i] = l.Name
	}
	if err := c.SetLevels(levels); err != nil {
		return err
	}
	notes, err := openAside(args.Notes)
	if err != nil {
		return err
	}
	if shared.groups, err = servedGroups(ctx, handle, args.Levels); err != nil {
		return err
	}
	written, err := openJournal(args.Journal, args.Library, levels, time.Now())
	if err != nil {
		return err
	}
	timeout := time.Duration(args.GangTimeoutSeconds) * time.Second
	if timeout <= 0 {
		timeout = defaultTimeout
	}
	shared.profiles = map[string]bool{}
	shared.book = newBook(&ledger{Core: c, journal: written}, args.Levels, timeout, shared.groups, notes)
	shared.book.lost = func(uids []types.UID) { reject(handle, uids) }
	klog.InfoS("Thole's library is open", "version", c.Version(), "levels", levels, "groups", shared.groups.resources(), "journal", args.Journal)
	return watch(handle)
}

// watch lets the book follow nodes and pods.
func watch(handle fwk.Handle) error {
	b := shared.book
	informers := handle.SharedInformerFactory().Core().V1()
	nodes, err := informers.Nodes().Informer().AddEventHandler(handler(
		b.nodeCame, func(n *v1.Node) { b.locked(func() { b.removeNode(n.Name) }) }))
	if err != nil {
		return err
	}
	pods, err := informers.Pods().Informer().AddEventHandler(handler(
		func(p *v1.Pod) { reject(handle, b.follow(p, isManaged(p))) }, func(p *v1.Pod) { reject(handle, b.gone(p)) }))
	if err != nil {
		return err
	}
	shared.synced = []cache.InformerSynced{nodes.HasSynced, pods.HasSynced}
	return nil
}

func (b *book) locked(what func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	what()
}

func handler[T any](set, gone func(T)) cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { set(o.(T)) },
		UpdateFunc: func(_, o any) { set(o.(T)) },
		DeleteFunc: func(o any) {
			if last, unseen := o.(cache.DeletedFinalStateUnknown); unseen {
				o = last.Obj
			}
			if object, ok := o.(T); ok {
				gone(object)
			}
		},
	}
}

// isManaged: the pod is for one of our profiles, and wants devices of ours or is of a gang.
func isManaged(pod *v1.Pod) bool {
	shared.Lock()
	ours := shared.profiles[pod.Spec.SchedulerName]
	shared.Unlock()
	return ours && (gang.Asks(pod) || gang.KeyOf(pod).Source != gang.Alone)
}

// reject lets go of pods that wait in Permit or are about to be bound and have lost their place.
func reject(handle fwk.Handle, uids []types.UID) {
	for _, uid := range uids {
		if waiting := handle.GetWaitingPod(uid); waiting != nil {
			waiting.Reject(Name, "GangBroken: another member of its gang did not get its place; all are placed again")
		}
		if binding := handle.GetPodInPreBind(uid); binding != nil {
			binding.CancelPod("GangBroken: another member of its gang did not get its place; all are placed again")
		}
	}
}
