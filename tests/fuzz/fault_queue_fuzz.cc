// SPDX-License-Identifier: BSD-3-Clause
// A fault queue's byte stream and its page groups: any bytes, in reads of any size, and groups that
// are good, broken or cut. Whatever comes, each cookie is answered at most once, and none of a
// whole group is forgotten.
#include "kernel/iommufd/fault_queue.h"

#include <array>
#include <map>

#include "tests/fuzz/event_sys.h"

namespace faultline::fuzz {
namespace {

using Queue = iommufd::FaultQueue<EventSys>;

uapi::iommu_hwpt_pgfault page(Input& in, std::uint32_t cookie, bool last) {
  uapi::iommu_hwpt_pgfault raw{};
  raw.cookie = cookie;
  raw.flags = last ? uapi::kIommuPgfaultFlagsLastPage : 0;
  if (in.flag()) raw.flags |= uapi::kIommuPgfaultFlagsPasidValid;
  raw.dev_id = 7;
  raw.perm = in.byte() % 16;
  raw.pasid = in.u16();
  raw.grpid = in.byte();
  raw.addr = std::uint64_t{in.u32()} << 12U;
  return raw;
}

void check(const FaultRecord& record) {
  hold(record.form == FaultRecord::Form::kPageRequest, "a page that makes no sense is handed out");
  hold(!record.has_pasid || record.pasid <= 0xfffff, "a PASID of more than 20 bits");
  hold(record.perm <= 7, "a permission that does not exist");
}

void hostile(Input& in) {
  EventSys sys;
  Queue queue(sys, 0, {7, 8});
  sys.lie = in.byte() % 4 == 0 ? in.u16() : 0;
  std::array<FaultRecord, 16> out;
  for (int steps = 0; steps < 64 && !in.empty(); ++steps) {
    switch (in.byte() % 6) {
      case 0:
        sys.most = 1 + in.byte();
        break;
      case 1:
        sys.fail_reads = in.byte() % 4;
        break;
      case 2:
        for (unsigned n = in.byte() % 80; n > 0; --n) sys.put(in.byte());
        break;
      case 3: {
        uapi::iommu_hwpt_pgfault raw{};
        in.fill(&raw, sizeof raw);
        raw.dev_id = 6 + raw.dev_id % 4;
        sys.put(raw);
        break;
      }
      case 4: {
        std::array<PageAnswer, 5> answers;
        for (PageAnswer& answer : answers) {
          answer.cookie = in.byte();
          if (in.flag()) sys.cookies.insert(answer.cookie);
        }
        sys.fail_writes = in.byte() % 4;
        const std::size_t open = sys.cookies.size();
        const std::size_t taken = queue.answer(answers);
        hold(open - sys.cookies.size() == taken, "answers are counted wrongly");
        for (const PageAnswer& answer : answers) {
          hold(taken != 0 || sys.cookies.count(answer.cookie) == 0, "an answer is not tried");
        }
        break;
      }
      default: {
        bool dry = false;
        const bool front = queue.refill(dry);
        hold(!front || !dry, "a page in front of nothing");
        hold(!front || queue.held(), "a page that is not held");
        const std::size_t device = front ? queue.device() : 0;
        hold(device < 2, "a page of no device");
        const std::size_t room = in.byte() % (out.size() + 1);
        const std::size_t n = queue.poll(device, std::span(out).first(room));
        hold(n <= room, "more pages than there was room");
        for (std::size_t i = 0; i < n; ++i) check(out[i]);
        break;
      }
    }
  }
}

/// Groups, some of them broken: a good one comes out whole and in order, a broken one is failed.
void groups(Input& in) {
  EventSys sys;
  Queue queue(sys, 0, {7, 8});
  std::map<std::uint32_t, unsigned> good;  // cookie → pages
  std::uint32_t cookie = 0;
  std::size_t all = 0;
  for (int i = 0; i < 12 && !in.empty(); ++i) {
    ++cookie;
    ++all;
    sys.cookies.insert(cookie);
    const unsigned pages = 1 + in.byte() % 6;
    const unsigned breaks = in.byte() % 8;
    const unsigned at = in.byte() % pages;
    for (unsigned p = 0; p < pages; ++p) {
      auto raw = page(in, cookie, p + 1 == pages);
      if (p == at && breaks == 0) raw.perm = 0x10;
      if (p == at && breaks == 1) raw.flags |= 4;
      if (p == at && breaks == 2) raw.dev_id = 99;
      if (p == at && breaks == 3) {
        raw.flags |= uapi::kIommuPgfaultFlagsPasidValid;
        raw.pasid = 0x10'0000;
      }
      sys.put(raw);
    }
    if (breaks > 3) good[cookie] = pages;
  }
  std::map<std::uint32_t, unsigned> seen;
  std::array<FaultRecord, 7> out;
  for (int i = 0; i < 400; ++i) {
    sys.most = in.empty() ? SIZE_MAX : 1 + in.byte();
    bool dry = false;
    (void)queue.refill(dry);
    const std::size_t n = queue.poll(0, out);
    for (std::size_t k = 0; k < n; ++k) {
      check(out[k]);
      ++seen[out[k].cookie];
      if (!out[k].last_page) continue;
      hold(good.count(out[k].cookie) != 0, "the end of a broken group is handed out");
      hold(seen[out[k].cookie] == good[out[k].cookie], "pages of a group are missing");
      const PageAnswer answer{out[k].cookie, in.flag()};
      hold(queue.answer(std::span(&answer, 1)) == 1, "an answer is not taken");
    }
  }
  hold(sys.bytes.empty() && !queue.held(), "something is kept for ever");
  hold(sys.cookies.empty(), "a device waits for ever");
  hold(sys.answered == all, "a group is answered more than once");
  hold(queue.stats().bad_groups == all - good.size(), "broken groups are counted wrongly");
}

void run(Input in) {
  if (in.flag()) {
    groups(in);
  } else {
    hostile(in);
  }
}

}  // namespace
}  // namespace faultline::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  faultline::fuzz::run({data, size});
  return 0;
}
