# SPDX-License-Identifier: BSD-3-Clause
"""The IORT that says what QEMU's SMMUv3 can do and QEMU's own table does not: CANWBS.

Linux allows nesting only where the root complex's accesses are coherent beyond what a guest's page
tables say (S2FWB, or "coherent access not overridable", CANWBS). QEMU's memory is always coherent,
so the claim is true there. The kernel takes the table from kernel/firmware/acpi/ of its initramfs
(CONFIG_ACPI_TABLE_UPGRADE) when the OEM revision is higher than that of the firmware's.

Source: Arm DEN 0049E (IO Remapping Table), 3.1; QEMU hw/arm/virt-acpi-build.c, build_iort().
"""

import struct

PATH = "kernel/firmware/acpi/iort.aml"

_SMMU_BASE = 0x09050000  # QEMU hw/arm/virt.c, base_memmap[VIRT_SMMU]
_SMMU_GSIV = {"event": 106, "pri": 107, "gerror": 109, "sync": 108}
_COHERENT, _COHERENT_PLATFORM, _CANWBS = 1, 2, 4


def _mapping(first, count, output, target):
    return struct.pack("<IIIII", first, count - 1, output, target, 0)


def _node(kind, revision, identifier, mappings, body):
    offset = 16 + len(body)
    head = struct.pack(
        "<BHBIII",
        kind,
        offset + 20 * len(mappings),
        revision,
        identifier,
        len(mappings),
        offset if mappings else 0,
    )
    return head + body + b"".join(mappings)


def iort(smmu_ids=(0, 0x100)):
    """The table. smmu_ids: RequesterIDs [first, end) that go through the SMMU; the rest do not."""
    first_node = 48
    its = _node(0, 1, 0, [], struct.pack("<II", 1, 0))
    smmu_at = first_node + len(its)
    smmu = _node(
        4,
        4,
        1,
        [_mapping(0, 0x10000, 0, first_node)],
        struct.pack("<QIIQI", _SMMU_BASE, 1, 0, 0, 0)
        + struct.pack("<IIII", *(_SMMU_GSIV[k] for k in ("event", "pri", "gerror", "sync")))
        + struct.pack("<II", 0, 0),
    )
    flags = _COHERENT | _COHERENT_PLATFORM | _CANWBS
    root_complex = _node(
        2,
        3,
        2,
        [
            _mapping(smmu_ids[0], smmu_ids[1] - smmu_ids[0], smmu_ids[0], smmu_at),
            _mapping(smmu_ids[1], 0x10000 - smmu_ids[1], smmu_ids[1], first_node),
        ],
        # coherent, allocation hints, reserved, memory access flags; ATS; segment; address bits
        struct.pack("<IBHB", 1, 0, 0, flags) + struct.pack("<IIBHB", 0, 0, 64, 0, 0),
    )
    nodes = its + smmu + root_complex
    head = b"IORT" + struct.pack("<IBB", first_node + len(nodes), 3, 0)
    head += b"BOCHS BXPC    " + struct.pack("<I", 2) + b"BXPC" + struct.pack("<I", 1)
    table = bytearray(head + struct.pack("<III", 3, first_node, 0) + nodes)
    table[9] = -sum(table) & 0xFF
    return bytes(table)
