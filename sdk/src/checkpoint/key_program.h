// checkpoint/key_program.h: a program that wraps and unwraps keys, asked by JSON on its pipes
// (docs/reference/key-helper.md).
#pragma once

#include <string>

#include "checkpoint/keys.h"

namespace thole::checkpoint {

// What the helper makes of a key, opaque to us; at most most_wrapped bytes.
result<std::string> helper_wrap(const key_source &helper, id128 run, const secret &key);
result<secret> helper_unwrap(const key_source &helper, id128 run, std::string_view wrapped);

}  // namespace thole::checkpoint
