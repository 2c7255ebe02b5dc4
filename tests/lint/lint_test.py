#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The lints reject what was planted for them."""

import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

import layers  # noqa: E402
import sources  # noqa: E402
import tally  # noqa: E402


class Layers(unittest.TestCase):
    def rejects(self, path, include):
        self.assertTrue(layers.check(path, f"#include {include}\n"), f"{path} {include}")

    def accepts(self, path, include):
        self.assertEqual(layers.check(path, f"#include {include}\n"), [])

    def test_engine_never_sees_uapi_or_a_backend(self):
        self.rejects("engine/shard.h", '"kernel/uapi/vfio_nested.h"')
        self.rejects("engine/engine.cc", '"kernel/vfio/container.h"')
        self.rejects("engine/viommu/event_queue.h", '"kernel/soft/soft_sys.h"')
        self.accepts("engine/event_duty.h", '"kernel/backend.h"')
        self.accepts("engine/viommu/event_queue.h", '"engine/journal.h"')
        self.accepts("engine/viommu/event_queue.h", '"kernel/base/shared.h"')

    def test_kernel_decides_nothing(self):
        self.rejects("kernel/vfio/sink.h", '"engine/merge/planner.h"')
        self.rejects("kernel/vfio/sink.h", '"kernel/soft/kernel.h"')
        self.rejects("kernel/uapi/abi.h", '"kernel/record.h"')
        self.rejects("kernel/base/result.h", '"kernel/sys.h"')
        self.rejects("kernel/record.h", '"kernel/vfio/device.h"')
        self.accepts("kernel/vfio/sink.h", '"kernel/operation.h"')
        self.accepts("kernel/probe.cc", '"kernel/sys.h"')

    def test_model_is_freestanding(self):
        self.rejects("kernel/model/walk.c", "<string.h>")
        self.rejects("kernel/model/walk.c", '"kernel/base/units.h"')
        self.accepts("kernel/model/walk.c", "<stdint.h>")
        self.accepts("kernel/model/walk.c", '"kernel/model/walk.h"')

    def test_guest_never_includes_engine(self):
        self.rejects("apps/guest/player.cc", '"engine/viommu/smmuv3.h"')
        self.accepts("apps/faultline/run.cc", '"engine/engine.h"')
        self.accepts("apps/faultline/run.cc", '"apps/guest/player.h"')

    def test_foreign_libraries_have_one_home(self):
        self.rejects("engine/shard.h", "<rte_lcore.h>")
        self.rejects("engine/shard.h", "<rte_ring.h>")
        self.rejects("engine/placement.cc", "<hwloc.h>")
        self.rejects("engine/lcore.cc", "<tbb/task_arena.h>")
        self.rejects("engine/engine.cc", "<nlohmann/json.hpp>")
        self.rejects("apps/faultline/run.cc", "<toml++/toml.h>")
        self.rejects("kernel/uapi/iommufd.h", "<linux/types.h>")
        self.rejects("tests/kernel/vfio_test.cc", "<linux/vfio.h>")
        self.accepts("engine/ring.h", "<rte_ring.h>")
        self.accepts("engine/lcore.cc", "<rte_eal.h>")
        self.accepts("tests/engine/ring_test.cc", "<rte_ring.h>")
        self.accepts("tests/kernel/uapi/drift_test.cc", "<linux/vfio.h>")

    def test_unknown_folder_is_rejected(self):
        self.assertTrue(layers.check("misc/x.h", ""))

    def test_a_planted_file_is_found(self):
        with tempfile.TemporaryDirectory() as name:
            root = pathlib.Path(name)
            (root / "engine").mkdir()
            (root / "engine" / "x.h").write_text('#include "kernel/vfio/container.h"\n')
            self.assertEqual(layers.main([name]), 1)
            (root / "engine" / "x.h").write_text('#include "kernel/sys.h"\n')
            self.assertEqual(layers.main([name]), 0)


class Sources(unittest.TestCase):
    BSD = "// SPDX-License-Identifier: BSD-3-Clause\n"

    def test_licence_line_comes_first(self):
        self.assertTrue(sources.check("engine/x.h", "#pragma once\n")[0])
        self.assertFalse(sources.check("engine/x.h", self.BSD)[0])
        self.assertFalse(sources.check("tests/x.py", "#!/usr/bin/env python3\n#" + self.BSD[2:])[0])

    def test_model_is_offered_to_the_kernel(self):
        self.assertTrue(sources.check("kernel/model/x.h", self.BSD)[0])
        dual = self.BSD.rstrip() + " OR GPL-2.0-only\n"
        self.assertFalse(sources.check("kernel/model/x.h", dual)[0])
        self.assertTrue(sources.check("engine/x.h", dual)[0])

    def test_long_files_are_warned_about(self):
        self.assertTrue(sources.check("engine/x.h", self.BSD * 401)[1])

    def test_strays_at_the_root_are_rejected(self):
        self.assertTrue(sources.strays(["fl", "left_amd64.deb"]))
        self.assertFalse(sources.strays(["fl", ".gitignore", "engine"]))

    def test_leftovers_are_rejected(self):
        self.assertTrue(sources.check("engine/x.h", self.BSD + "// TO" + "DO: later\n")[0])


class Tally(unittest.TestCase):
    def test_counts_cases_and_failures_without_a_result(self):
        with tempfile.TemporaryDirectory() as name:
            build = pathlib.Path(name)
            (build / "meson-logs").mkdir()
            (build / "meson-logs" / "testlog.json").write_text(
                '{"name": "faultline:unit / a", "result": "OK"}\n'
                '{"name": "faultline:unit / b", "result": "FAIL"}\n'
                '{"name": "faultline:unit / c", "result": "TIMEOUT"}\n'
                '{"name": "faultline:style / d", "result": "SKIP"}\n'
                '{"name": "faultline:seed / e", "result": "FAIL",'
                ' "stdout": "1..3\\nok 1 - x\\nnot ok 2 - y\\nok 3 # SKIP z\\n"}\n'
            )
            case = '<testcase status="run" result="completed"'
            (build / "a.xml").write_text(
                f'<testsuites>{case}/>{case}/><testcase status="run" result="skipped"/>'
                '<testcase status="notrun" result="suppressed"/></testsuites>'
            )
            (build / "b.xml").write_text(
                f"<testsuites>{case}/>{case}><failure/></testcase></testsuites>"
            )
            self.assertEqual(tally.tally(build), (4, 3, 3))


if __name__ == "__main__":
    unittest.main()
