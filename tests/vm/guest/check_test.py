#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What check.py makes of failures and of a host that stalls; needs no guest."""

import contextlib
import io
import unittest

import check


def attempts(*outcomes):
    """(attempt, made): a function that gives one (good, stall in ms) after the other."""
    made = []

    def attempt():
        good, stall = outcomes[len(made)]
        checks = check.Checks()
        checks.that(good, "something")
        checks.stall_ns = stall * 1_000_000
        made.append(checks)
        return checks

    return attempt, made


class Judge(unittest.TestCase):
    def judge(self, *outcomes):
        attempt, made = attempts(*outcomes)
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            good = check.judge(attempt).good()
        return good, len(made), said.getvalue().count("INCONCLUSIVE")

    def test_a_good_attempt_is_not_repeated(self):
        self.assertEqual(self.judge((True, 0)), (True, 1, 0))

    def test_a_good_attempt_counts_though_the_host_stalled(self):
        self.assertEqual(self.judge((True, 900)), (True, 1, 0))

    def test_a_failure_without_a_stall_is_final(self):
        self.assertEqual(self.judge((False, 300), (True, 0)), (False, 1, 0))

    def test_a_failure_while_the_host_stalled_is_repeated(self):
        self.assertEqual(self.judge((False, 301), (True, 0)), (True, 2, 1))

    def test_three_inconclusive_attempts_are_no_pass(self):
        self.assertEqual(self.judge((False, 301), (False, 500), (False, 400)), (False, 3, 3))


if __name__ == "__main__":
    unittest.main()
