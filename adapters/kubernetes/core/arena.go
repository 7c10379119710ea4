package core

/*
#include <stdlib.h>
#include "calls.h"
*/
import "C"

import "unsafe"

// arena is the C memory of one call: what the library reads, and the room for its answer.
type arena struct {
	blocks []unsafe.Pointer
	free   unsafe.Pointer
	left   uintptr
}

const blockSize = 16 << 10

func (a *arena) release() {
	for _, b := range a.blocks {
		C.free(b)
	}
}

// take answers zeroed memory, aligned to 8 bytes.
func (a *arena) take(size uintptr) unsafe.Pointer {
	size = (size + 7) &^ 7
	if size > a.left {
		a.left = max(size, blockSize)
		a.free = C.calloc(1, C.size_t(a.left))
		a.blocks = append(a.blocks, a.free)
	}
	p := a.free
	a.free = unsafe.Add(p, size)
	a.left -= size
	return p
}

// array answers n zeroed elements, as memory and as the list that the library takes.
func array[T any](a *arena, n int) ([]T, C.thole_list) {
	if n == 0 {
		return nil, C.thole_list{}
	}
	var zero T
	p := a.take(unsafe.Sizeof(zero) * uintptr(n))
	return unsafe.Slice((*T)(p), n), C.thole_list{data: p, count: C.uint64_t(n), stride: C.uint64_t(unsafe.Sizeof(zero))}
}

func (a *arena) text(s string) C.thole_str {
	if s == "" {
		return C.thole_str{}
	}
	p := a.take(uintptr(len(s)))
	copy(unsafe.Slice((*byte)(p), len(s)), s)
	return C.thole_str{data: (*C.char)(p), len: C.uint64_t(len(s))}
}

func (a *arena) texts(all []string) C.thole_list {
	out, list := array[C.thole_str](a, len(all))
	for i, s := range all {
		out[i] = a.text(s)
	}
	return list
}

// elements walks a list of the library's answer: its stride may be larger than what was compiled here.
func elements[T any](list C.thole_list) []*T {
	out := make([]*T, list.count)
	for i := range out {
		out[i] = (*T)(unsafe.Add(list.data, uintptr(i)*uintptr(list.stride)))
	}
	return out
}

func texts(list C.thole_list) []string {
	var out []string
	for _, s := range elements[C.thole_str](list) {
		out = append(out, text(*s))
	}
	return out
}

// call repeats what answers into a room until the room is large enough.
func (a *arena) call(guess uintptr, what func(room *C.thole_buffer, status *C.thole_status) C.thole_code) error {
	for size := guess; ; {
		status := newStatus()
		room := C.thole_buffer{data: a.take(size), size: C.uint64_t(size)}
		switch what(&room, &status) {
		case C.THOLE_OK:
			return nil
		case C.THOLE_TOO_SMALL:
			size = uintptr(room.used) + uintptr(room.used)/8
		default:
			return said(&status)
		}
	}
}
