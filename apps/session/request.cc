// SPDX-License-Identifier: BSD-3-Clause
#include "apps/session/request.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

namespace faultline::session {

using nlohmann::json;

Result<Request> Request::parse(Packet packet) {
  // Nothing that a VMM says is deeper than this; it bounds the parser's memory.
  constexpr int kDepth = 8;
  bool deep = false;
  const json::parser_callback_t shallow = [&](int depth, json::parse_event_t, json&) {
    deep = deep || depth > kDepth;
    return !deep;
  };
  Request request;
  request.body = json::parse(packet.text, shallow, false);
  if (deep || request.body.is_discarded() || !request.body.is_object()) {
    return fail(EINVAL, "a packet is one JSON object, UTF-8");
  }
  const auto id = request.body.find("id");
  if (id == request.body.end() || !id->is_number_unsigned() || id->get<std::uint64_t>() > kMostId) {
    return fail(EINVAL, "a request has an 'id', a whole number below 2^53");
  }
  request.id = id->get<std::uint64_t>();
  request.body.erase(id);
  const auto method = request.body.find("method");
  if (method != request.body.end() && method->is_string()) {
    request.method = method->get<std::string>();
    request.body.erase(method);
  }
  request.fds = std::move(packet.fds);
  return request;
}

const json* Fields::find(const char* name) {
  known_.emplace_back(name);
  const auto at = object_->find(name);
  return at == object_->end() ? nullptr : &*at;
}

void Fields::wrong(const char* name, const std::string& what) {
  if (error_.empty()) error_ = fmt::format("{}: '{}' {}", where_, name, what);
}

std::uint64_t Fields::number(const char* name, std::uint64_t most) {
  const json* value = find(name);
  if (value == nullptr) {
    wrong(name, "is missing");
  } else if (!value->is_number_unsigned() || value->get<std::uint64_t>() > most) {
    wrong(name, fmt::format("has to be a whole number from 0 to {}", most));
  } else {
    return value->get<std::uint64_t>();
  }
  return 0;
}

std::uint64_t Fields::number(const char* name, std::uint64_t most, std::uint64_t otherwise) {
  if (object_->contains(name)) return number(name, most);
  known_.emplace_back(name);
  return otherwise;
}

std::string Fields::text(const char* name, std::size_t most) {
  const json* value = find(name);
  if (value == nullptr) {
    wrong(name, "is missing");
    return {};
  }
  if (value->is_string()) {
    const auto& s = value->get_ref<const std::string&>();
    const bool printable =
        std::ranges::none_of(s, [](unsigned char c) { return c < 0x20 || c == 0x7f; });
    if (!s.empty() && s.size() <= most && printable) return s;
  }
  wrong(name, fmt::format("has to be text of 1 to {} printable bytes", most));
  return {};
}

std::string Fields::text(const char* name, std::size_t most, const std::string& otherwise) {
  if (object_->contains(name)) return text(name, most);
  known_.emplace_back(name);
  return otherwise;
}

bool Fields::flag(const char* name, bool otherwise) {
  const json* value = find(name);
  if (value == nullptr) return otherwise;
  if (value->is_boolean()) return value->get<bool>();
  wrong(name, "has to be true or false");
  return otherwise;
}

std::vector<unsigned> Fields::numbers(const char* name, std::uint64_t most,
                                      std::size_t most_items) {
  std::vector<unsigned> out;
  const json* value = find(name);
  if (value == nullptr) return out;
  const bool sane = value->is_array() && value->size() <= most_items &&
                    std::ranges::all_of(*value, [&](const json& n) {
                      return n.is_number_unsigned() && n.get<std::uint64_t>() <= most;
                    });
  if (!sane) {
    wrong(name,
          fmt::format("has to be a list of at most {} whole numbers up to {}", most_items, most));
    return out;
  }
  for (const json& n : *value) out.push_back(n.get<unsigned>());
  return out;
}

Fd Fields::take(const char* name, const json& index) {
  if (!index.is_number_unsigned() || index.get<std::uint64_t>() >= fds_->size()) {
    wrong(name, fmt::format("has to be the index of a descriptor; {} came with this packet",
                            fds_->size()));
    return {};
  }
  Fd& fd = (*fds_)[index.get<std::size_t>()];
  if (!fd) wrong(name, "names a descriptor that another field has named");
  return std::move(fd);
}

Fd Fields::fd(const char* name) {
  const json* value = find(name);
  if (value != nullptr) return take(name, *value);
  wrong(name, "is missing");
  return {};
}

Fd Fields::optional_fd(const char* name) {
  const json* value = find(name);
  return value == nullptr ? Fd() : take(name, *value);
}

std::vector<Fd> Fields::optional_fds(const char* name) {
  std::vector<Fd> out;
  const json* value = find(name);
  if (value == nullptr) return out;
  if (!value->is_array()) {
    wrong(name, "has to be a list of indices of descriptors");
    return out;
  }
  for (const json& index : *value) out.push_back(take(name, index));
  return out;
}

const json* Fields::objects(const char* name, std::size_t most) {
  const json* value = find(name);
  if (value == nullptr) return nullptr;
  const bool sane = value->is_array() && value->size() <= most &&
                    std::ranges::all_of(*value, [](const json& o) { return o.is_object(); });
  if (sane) return value;
  wrong(name, fmt::format("has to be a list of at most {} objects", most));
  return nullptr;
}

const json* Fields::object(const char* name) {
  const json* value = find(name);
  if (value == nullptr || value->is_object()) return value;
  wrong(name, "has to be an object");
  return nullptr;
}

void Fields::part(Result<void> ok) {
  if (!ok && error_.empty()) error_ = std::move(ok.error().what);
}

Result<void> Fields::finish() {
  for (const auto& [name, value] : object_->items()) {
    if (std::ranges::find(known_, name) != known_.end()) continue;
    // What a peer wrote is shown as JSON, so that it stays one line.
    const std::string shown =
        json(name.substr(0, 40)).dump(-1, ' ', true, json::error_handler_t::replace);
    return fail(EINVAL,
                fmt::format("{}: unknown field '{}'", where_, shown.substr(1, shown.size() - 2)));
  }
  if (!error_.empty()) return fail(EINVAL, error_);
  return {};
}

Result<void> Fields::finish_request() {
  if (auto ok = finish(); !ok) return ok;
  const auto unused = std::ranges::count_if(*fds_, [](const Fd& fd) { return bool(fd); });
  if (unused != 0) {
    return fail(EINVAL, fmt::format("{}: {} of the descriptors that came are named by no field",
                                    where_, unused));
  }
  return {};
}

std::string printable(std::string_view text, std::size_t most) {
  std::string out(text.substr(0, most));
  std::ranges::replace_if(
      out, [](char c) { return c < ' ' || c > '~'; }, '?');
  return out;
}

}  // namespace faultline::session
