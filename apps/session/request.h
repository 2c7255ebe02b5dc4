// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "apps/session/fd.h"
#include "apps/session/wire.h"
#include "kernel/base/result.h"

namespace faultline::session {

/// Addresses, sizes and ids: exact in every JSON library.
inline constexpr std::uint64_t kMostAddress = (std::uint64_t{1} << 52U) - 1;
inline constexpr std::uint64_t kMostId = (std::uint64_t{1} << 53U) - 1;

/// A packet that is a request: which one, and its fields and descriptors.
struct Request {
  std::uint64_t id = 0;
  std::string method;
  nlohmann::json body;
  std::vector<Fd> fds;

  /// errors  one line; `id` of the result is not known then
  static Result<Request> parse(Packet packet);
};

/// The fields of one JSON object of a request. Each is taken by name; the first that is not what it
/// has to be is remembered, and what was not taken at all is found by finish().
///
/// where  in front of each error: the method
class Fields {
 public:
  Fields(const nlohmann::json& object, std::vector<Fd>& fds, std::string where)
      : object_(&object), fds_(&fds), where_(std::move(where)) {}

  /// A whole number up to `most`.
  std::uint64_t number(const char* name, std::uint64_t most);
  std::uint64_t number(const char* name, std::uint64_t most, std::uint64_t otherwise);
  /// 1 to `most` bytes without control characters.
  std::string text(const char* name, std::size_t most);
  std::string text(const char* name, std::size_t most, const std::string& otherwise);
  bool flag(const char* name, bool otherwise);
  std::vector<unsigned> numbers(const char* name, std::uint64_t most, std::size_t most_items);
  /// The descriptor that the field's number names.
  Fd fd(const char* name);
  Fd optional_fd(const char* name);
  std::vector<Fd> optional_fds(const char* name);
  /// A list of objects, at most so many; null when it is left out.
  const nlohmann::json* objects(const char* name, std::size_t most);
  /// An object whose fields somebody else knows; null when it is left out.
  const nlohmann::json* object(const char* name);

  /// The fields of an object inside this one; their descriptors are of the same packet.
  [[nodiscard]] Fields inner(const nlohmann::json& object, std::string where) {
    return {object, *fds_, std::move(where)};
  }
  /// Take over what went wrong in a part of this object.
  void part(Result<void> ok);

  /// errors  code EINVAL: the first field that was wrong, or one that nobody took
  [[nodiscard]] Result<void> finish();
  /// As finish(), for the object that is the whole request: every descriptor was taken, too.
  [[nodiscard]] Result<void> finish_request();

 private:
  const nlohmann::json* find(const char* name);
  void wrong(const char* name, const std::string& what);
  Fd take(const char* name, const nlohmann::json& index);

  const nlohmann::json* object_;
  std::vector<Fd>* fds_;
  std::string where_;
  std::vector<std::string> known_;
  std::string error_;
};

/// What a peer says, for a line to people: at most so many bytes, others than ASCII's printable as
/// ?.
[[nodiscard]] std::string printable(std::string_view text, std::size_t most);

}  // namespace faultline::session
