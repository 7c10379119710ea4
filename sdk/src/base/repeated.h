// base/repeated.h: a new element of a Protobuf message's repeated field.
#pragma once

#include <google/protobuf/repeated_field.h>

namespace thole {

// As `of->Add()`, which makes the element before the place for it, and loses the element when memory for the place is
// out.
template <class T>
T *next(google::protobuf::RepeatedPtrField<T> *of) {
  of->Reserve(of->size() + 1);
  return of->Add();
}

}  // namespace thole
