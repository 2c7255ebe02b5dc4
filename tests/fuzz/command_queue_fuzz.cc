// SPDX-License-Identifier: BSD-3-Clause
// A command queue under any registers and any order of calls, against one counted in 64 bits.
#include "engine/viommu/command_queue.h"

#include <array>

#include "tests/fuzz/guest.h"

namespace faultline::fuzz {
namespace {

using viommu::CommandError;
using viommu::CommandQueue;
using viommu::RawCommand;

constexpr std::uint64_t kRam = 0x4000'0000;
constexpr std::size_t kBytes = 0x8000;

GuardedMemory& memory() {
  static GuardedMemory made{{kRam, kBytes}, {kRam + kBytes + 0x10000, 0x1000}};
  return made;
}

/// Every slot says where it lies.
void number_slots() {
  for (const auto& region : memory().regions) {
    auto* words = static_cast<std::uint64_t*>(region.host);
    for (std::size_t i = 0; i < region.size / 8; ++i) words[i] = region.gpa.value + 8 * i;
  }
}

struct Model {
  bool enabled = false;
  std::uint64_t base = 0;
  std::uint64_t size = 1;
  std::uint64_t cons = 0;     ///< counts without wrapping; its register is modulo twice the size
  std::uint64_t fetched = 0;  ///< likewise

  /// Commands between the fetch position and what PROD is taken for.
  [[nodiscard]] std::uint64_t pending(std::uint32_t prod) const {
    if (!enabled) return 0;
    std::uint64_t ahead = (prod + 4 * size - cons % (2 * size)) % (2 * size);
    if (ahead > size) ahead -= size;
    const std::uint64_t in_flight = fetched - cons;
    return ahead > in_flight ? ahead - in_flight : 0;
  }
  [[nodiscard]] bool mapped() const {
    for (const auto& r : memory().regions) {
      if (base >= r.gpa.value && base - r.gpa.value <= r.size &&
          size * 16 <= r.size - (base - r.gpa.value)) {
        return true;
      }
    }
    return false;
  }
};

void enable(Input& in, CommandQueue& queue, Model& model) {
  const unsigned max_log2 = in.byte() % 20;
  std::uint64_t base = in.flag() ? kRam + 32 * std::uint64_t{in.u16()} : in.u64();
  base = (base & ~std::uint64_t{0x1f}) | (in.byte() & 0x1f);
  const std::uint32_t cons = in.u32();
  queue.enable(memory().get(), base, cons, max_log2);
  const unsigned log2 = std::min<unsigned>({static_cast<unsigned>(base & 0x1f), max_log2, 19});
  const std::uint64_t bytes = std::max<std::uint64_t>(std::uint64_t{16} << log2, 32);
  base = base << 12 >> 12;
  model = {true, base / bytes * bytes, std::uint64_t{1} << log2, 0, 0};
  model.cons = model.fetched = cons % (2 * model.size);
  hold(queue.size() == model.size && queue.base().value == model.base, "the queue's place");
}

void fetch(Input& in, CommandQueue& queue, Model& model) {
  const std::uint32_t prod = in.flag() ? in.u32() : queue.cons() + in.byte() % 40;
  std::array<RawCommand, 32> out;
  const std::size_t room = in.below(33);
  const std::uint64_t pending = model.pending(prod);
  hold(queue.unfetched(prod) == pending, "how many commands there are");
  const auto got = queue.fetch(prod, std::span(out).first(room));
  const std::uint64_t n = std::min<std::uint64_t>(pending, room);
  if (n != 0 && !model.mapped()) {
    hold(got.error == CommandError::kAbort && got.count == 0, "a queue outside of guest memory");
    return;
  }
  hold(got.error == CommandError::kNone && got.count == n, "how many commands were fetched");
  for (std::uint64_t i = 0; i < n; ++i) {
    const std::uint64_t at = model.base + 16 * ((model.fetched + i) % model.size);
    hold(out[i].word[0] == at && out[i].word[1] == at + 8, "a command of another slot");
  }
  model.fetched += n;
}

void run(Input in) {
  static const bool once = (number_slots(), true);
  static_cast<void>(once);
  CommandQueue queue;
  Model model;
  for (int steps = 0; steps < 64 && !in.empty(); ++steps) {
    switch (in.byte() % 6) {
      case 0:
        enable(in, queue, model);
        break;
      case 1:
        queue.disable();
        model.enabled = false;
        break;
      case 2: {
        const auto n = static_cast<std::uint32_t>(in.below(queue.in_flight() + 1));
        queue.advance(n);
        model.cons += n;
        break;
      }
      case 3:
        queue.rewind();
        model.fetched = model.cons;
        break;
      default:
        fetch(in, queue, model);
        break;
    }
    hold(queue.enabled() == model.enabled, "enabled");
    hold(queue.in_flight() == model.fetched - model.cons, "commands in flight");
    hold(queue.in_flight() <= queue.size(), "more in flight than the queue holds");
    hold(queue.cons() == model.cons % (2 * model.size), "CONS");
    const std::uint32_t reg = queue.cons_register(CommandError::kIllegal, 1);
    hold((reg >> 24 & 0x7f) == 1 && (reg & 0xfffff) == (model.cons + 1) % (2 * model.size),
         "CMDQ_CONS");
  }
}

}  // namespace
}  // namespace faultline::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  faultline::fuzz::run({data, size});
  return 0;
}
