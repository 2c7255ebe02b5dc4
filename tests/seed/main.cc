// SPDX-License-Identifier: BSD-3-Clause
#include <gtest/gtest.h>

#include <cstdio>
#include <cstring>

#include "kernel/soft/mutation.h"

// `--list-mutations` names every mistake that the kernel under test can be told to make.
int main(int argc, char** argv) {
  if (argc > 1 && std::strcmp(argv[1], "--list-mutations") == 0) {
    for (const faultline::soft::Mutation m : faultline::soft::all_mutations()) {
      std::printf("%s\n", std::string(faultline::soft::name_of(m)).c_str());
    }
    return 0;
  }
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
