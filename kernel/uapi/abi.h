// SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only
#pragma once

#include <cstddef>

// A mirrored kernel struct must have the kernel's size and every field the kernel's place and size.
// NOLINTBEGIN(cppcoreguidelines-macro-usage): the field's name is needed as text and as a member.
#define ABI_STRUCT(type, size) static_assert(sizeof(type) == (size), #type " has another size")
#define ABI_FIELD(type, field, at, size)                                          \
  static_assert(offsetof(type, field) == (at), #type "." #field " is elsewhere"); \
  static_assert(sizeof(((type*)nullptr)->field) == (size), #type "." #field " has another size")
// NOLINTEND(cppcoreguidelines-macro-usage)
