// Package core is Thole's library, libthole.so.0, for Go: the ledger of devices and the pure services that an adapter
// needs. The library is opened at run time, so that a binary is built without it.
//
// Everything that the library reads through a pointer lies in C memory of one call (arena), and its answers are copied
// into Go values before the call's memory is given back: no pointer of either side outlives a call.
package core

/*
#cgo CFLAGS: -std=c11 -DTHOLE_ENABLE_DRAFT -I${SRCDIR}/../../../abi/include
#cgo LDFLAGS: -ldl
#include <dlfcn.h>
#include <stdlib.h>
#include "calls.h"

static const thole_root *enter(void *symbol, thole_status *status) {
  thole_entry_v1_fn entry;
  *(void **)&entry = symbol; // POSIX's way to make a function of what dlsym answers
  return entry(THOLE_ABI_MAJOR, THOLE_ABI_MINOR, status);
}

extern void tholeLog(void *self, int32_t level, thole_str component, thole_str message);
static void write_log(void *self, thole_log_level level, thole_str component, thole_str message) {
  tholeLog(self, level, component, message);
}
static thole_code open_core(const thole_root *root, void *self, thole_str state, thole_core *core, thole_status *status) {
  thole_host_log log = {sizeof log, self, THOLE_LOG_INFO, 0, write_log};
  thole_core_options options = {sizeof options, self == NULL ? NULL : &log, state, {NULL, 0}};
  return root->core->open(&options, core, status);
}
*/
import "C"

import (
	"fmt"
	"os"
	"runtime/cgo"
	"unsafe"
)

// Code is the class of an answer that a program can act on: the numbers of thole/base.h.
type Code int32

// The classes that callers tell apart.
const (
	Invalid  Code = C.THOLE_INVALID
	NotFound Code = C.THOLE_NOT_FOUND
	Exists   Code = C.THOLE_EXISTS
	Conflict Code = C.THOLE_CONFLICT
	NoFit    Code = C.THOLE_NO_FIT
	DataLoss Code = C.THOLE_DATA_LOSS
	NotKnown Code = C.THOLE_UNSUPPORTED
)

// Error is a call that did not succeed: a stable reason for programs, and a sentence for people.
type Error struct {
	Code    Code
	Reason  string
	Message string
	Retry   bool // the same call may succeed later
}

func (e *Error) Error() string { return e.Reason + ": " + e.Message }

// Core is one ledger with the services around it. Its methods may be called from any goroutine.
type Core struct {
	root   *C.thole_root
	handle C.thole_core
	log    cgo.Handle
}

// Log receives what the library has to say; level is 1 (debug) to 4 (error).
type Log func(level int, component, message string)

// Path answers where the library is: what is given, else THOLE_LIBRARY, else the name by which the system's loader finds it.
func Path(given string) string {
	if given != "" {
		return given
	}
	if path := os.Getenv("THOLE_LIBRARY"); path != "" {
		return path
	}
	return "libthole.so.0"
}

// Open loads the library at path (see Path) and opens a core whose ledger is kept in memory. log may be nil.
func Open(path string, log Log) (*Core, error) { return OpenJournal(path, "", log) }

// OpenJournal is Open with a ledger that is written down in a folder, and begins with what is written there: each change is
// on the disk before the call that makes it returns, and one that cannot be written is not made.
func OpenJournal(path, folder string, log Log) (*Core, error) {
	name := C.CString(Path(path))
	defer C.free(unsafe.Pointer(name))
	// The library is never unmapped again (it is linked nodelete), so nobody owns what dlopen answers.
	library := C.dlopen(name, C.RTLD_NOW|C.RTLD_LOCAL)
	if library == nil {
		return nil, fmt.Errorf("the library cannot be loaded: %s; give its path with --library or THOLE_LIBRARY", C.GoString(C.dlerror()))
	}
	symbol := C.CString(C.THOLE_ENTRY_SYMBOL)
	defer C.free(unsafe.Pointer(symbol))
	entry := C.dlsym(library, symbol)
	if entry == nil {
		return nil, fmt.Errorf("%s is not Thole's library: it has no symbol %s", Path(path), C.THOLE_ENTRY_SYMBOL)
	}
	status := newStatus()
	c := &Core{root: C.enter(entry, &status)}
	if c.root == nil {
		return nil, said(&status)
	}
	var self unsafe.Pointer
	if log != nil {
		c.log = cgo.NewHandle(log)
		self = C.calloc(1, C.size_t(unsafe.Sizeof(c.log)))
		*(*cgo.Handle)(self) = c.log
	}
	var a arena
	defer a.release()
	if code := C.open_core(c.root, self, a.text(folder), &c.handle, &status); code != C.THOLE_OK {
		return nil, said(&status)
	}
	return c, nil
}

// Version is the library's, for people.
func (c *Core) Version() string { return text(c.root.version) }

// Close ends the core. What it held is forgotten.
func (c *Core) Close() error {
	status := newStatus()
	if C.core_close(c.root, c.handle, &status) != C.THOLE_OK {
		return said(&status)
	}
	return nil
}

//export tholeLog
func tholeLog(self unsafe.Pointer, level C.int32_t, component, message C.thole_str) {
	(*(*cgo.Handle)(self)).Value().(Log)(int(level), text(component), text(message))
}

func newStatus() C.thole_status {
	return C.thole_status{struct_size: C.sizeof_thole_status}
}

func said(s *C.thole_status) error {
	return &Error{Code(s.code), C.GoString(&s.reason[0]), C.GoString(&s.message[0]), s.flags&C.THOLE_STATUS_RETRY != 0}
}

func text(s C.thole_str) string { return C.GoStringN(s.data, C.int(s.len)) }
