// SPDX-License-Identifier: BSD-3-Clause
#include "apps/faultlined/fd_store.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <span>
#include <utility>

#include "apps/faultlined/fd_index.h"

namespace faultline::daemon {
namespace {

constexpr std::size_t kIndexBytes = std::size_t{16} << 20U;

bool write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = write(fd, text.data(), text.size());
    if (n <= 0) return false;
    text.remove_prefix(static_cast<std::size_t>(n));
  }
  return true;
}

std::string read_all(int fd) {
  const off_t end = lseek(fd, 0, SEEK_END);
  std::string text(end > 0 ? std::min(static_cast<std::size_t>(end), kIndexBytes) : 0, '\0');
  std::size_t got = 0;
  while (got < text.size()) {
    const ssize_t n = pread(fd, text.data() + got, text.size() - got, static_cast<off_t>(got));
    if (n <= 0) break;
    got += static_cast<std::size_t>(n);
  }
  text.resize(got);
  return text;
}

}  // namespace

Passed take_passed() {
  Passed passed;
  char** names = nullptr;
  const int n = sd_listen_fds_with_names(1, &names);
  for (int i = 0; i < n; ++i) {
    const int fd = SD_LISTEN_FDS_START + i;
    const std::string name = names != nullptr ? names[i] : "";
    if (numbered('k', name) || numbered('i', name)) {
      passed.stored.push_back({name, fd});
    } else if (sd_is_socket(fd, AF_UNSPEC, SOCK_SEQPACKET, 1) > 0) {
      passed.sockets.push_back(fd);
    } else {
      close(fd);
    }
    if (names != nullptr) std::free(names[i]);
  }
  std::free(static_cast<void*>(names));
  return passed;
}

bool FdStore::ByFile::operator()(int a, int b) const {
  // 0 equal, 1 less, 2 greater, 3 different without an order; a kernel without kcmp tells nothing
  // apart, and neither does systemd there.
  constexpr int kKcmpFile = 0;
  const auto self = static_cast<long>(getpid());
  const long order = syscall(SYS_kcmp, self, self, kKcmpFile, static_cast<unsigned long>(a),
                             static_cast<unsigned long>(b));
  return order == 1 || ((order < 0 || order == 3) && a < b);
}

FdStore::FdStore(Notify& notify, std::size_t limit, Log log)
    : notify_(&notify), limit_(limit), log_(std::move(log)) {}

FdStore::~FdStore() {
  for (const auto& [number, slot] : slots_) close(slot.fd);
  if (index_ >= 0) close(index_);
}

std::vector<session::KeptFd> FdStore::restore(std::vector<session::KeptFd> stored) {
  int newest = -1;
  for (const session::KeptFd& s : stored) {
    if (const auto number = numbered('k', s.name); number && !slots_.contains(*number)) {
      slots_[*number] = {s.fd, 0};
      by_file_.emplace(s.fd, *number);
      last_slot_ = std::max(last_slot_, *number);
    } else if (const auto age = numbered('i', s.name); age && *age > generation_) {
      // An older one is there when a kill fell between making the next and dropping it.
      if (newest >= 0) {
        close(newest);
        notify_->send("FDSTOREREMOVE=1\nFDNAME=i" + hex(generation_), {});
      }
      newest = s.fd;
      generation_ = *age;
    } else {
      close(s.fd);
      if (age) notify_->send("FDSTOREREMOVE=1\nFDNAME=" + s.name, {});
    }
  }
  std::vector<session::KeptFd> kept;
  for (const IndexEntry& e :
       newest < 0 ? std::vector<IndexEntry>{} : parse_index(read_all(newest))) {
    const auto it = slots_.find(e.slot);
    const int fd = it == slots_.end() ? -1 : fcntl(it->second.fd, F_DUPFD_CLOEXEC, 0);
    if (fd < 0) {
      log_("fd store: " + e.name + " was not handed back");
      continue;
    }
    ++it->second.names;
    names_.emplace(e.name, e.slot);
    kept.push_back({e.name, fd});
  }
  if (newest >= 0) close(newest);
  std::vector<std::uint32_t> nameless;
  for (const auto& [number, slot] : slots_) {
    if (slot.names == 0) nameless.push_back(number);
  }
  for (const std::uint32_t number : nameless) let_go(number);
  if (!nameless.empty()) {
    log_("fd store: dropped " + std::to_string(nameless.size()) + " descriptors without a name");
  }
  if (!stored.empty()) renew_index();
  return kept;
}

std::optional<std::uint32_t> FdStore::slot_of(const std::string& name, int fd) {
  if (const auto it = by_file_.find(fd); it != by_file_.end()) return it->second;
  // Two are the index's, while it is renewed.
  if (slots_.size() + 2 >= limit_) {
    log_("fd store: full with " + std::to_string(slots_.size()) + " files, " + name +
         " would not survive a restart: raise FileDescriptorStoreMax");
    return std::nullopt;
  }
  const int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (own < 0) {
    log_("fd store: " + name + ": no descriptor left: raise LimitNOFILE");
    return std::nullopt;
  }
  const std::uint32_t slot = ++last_slot_;
  // FDPOLL=0: what is kept goes when it is forgotten, not when its other end hangs up.
  if (!notify_->send("FDSTORE=1\nFDPOLL=0\nFDNAME=k" + hex(slot), std::span(&own, 1))) {
    close(own);
    return std::nullopt;
  }
  slots_[slot] = {own, 0};
  by_file_.emplace(own, slot);
  return slot;
}

void FdStore::keep(const std::string& name, int fd) {
  if (!valid_kept_name(name)) {
    log_("fd store: a name that cannot be kept");
    return;
  }
  forget(name);
  const auto slot = slot_of(name, fd);
  if (!slot) return;
  ++slots_[*slot].names;
  names_[name] = *slot;
  append(hex(*slot) + " " + name + "\n");
}

void FdStore::forget(const std::string& name) {
  const auto it = names_.find(name);
  if (it == names_.end()) return;
  const std::uint32_t slot = it->second;
  names_.erase(it);
  append(" " + name + "\n");
  if (--slots_[slot].names == 0) let_go(slot);
}

void FdStore::let_go(std::uint32_t slot) {
  notify_->send("FDSTOREREMOVE=1\nFDNAME=k" + hex(slot), {});
  const auto it = slots_.find(slot);
  by_file_.erase(it->second.fd);
  close(it->second.fd);
  slots_.erase(it);
}

void FdStore::append(const std::string& line) {
  ++lines_;
  if (index_ < 0 || lines_ > 2 * names_.size() + 64 || !write_all(index_, line)) renew_index();
}

void FdStore::renew_index() {
  std::string text(kIndexHead);
  for (const auto& [name, slot] : names_) text += hex(slot) + " " + name + "\n";
  const int fresh = memfd_create("faultline-index", MFD_CLOEXEC);
  const std::uint32_t before = generation_++;
  // Whole before the store has it; the older one stays until then.
  if (fresh < 0 || fcntl(fresh, F_SETFL, O_APPEND) != 0 || !write_all(fresh, text) ||
      !notify_->send("FDSTORE=1\nFDPOLL=0\nFDNAME=i" + hex(generation_), std::span(&fresh, 1))) {
    log_("fd store: its index cannot be written, what is new would not survive a restart");
    if (fresh >= 0) close(fresh);
    generation_ = before;
    return;
  }
  if (before > 0) notify_->send("FDSTOREREMOVE=1\nFDNAME=i" + hex(before), {});
  if (index_ >= 0) close(index_);
  index_ = fresh;
  lines_ = names_.size();
}

}  // namespace faultline::daemon
