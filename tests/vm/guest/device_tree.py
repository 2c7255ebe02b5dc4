# SPDX-License-Identifier: BSD-3-Clause
"""The device tree of a guest whose SMMU is a piece of its memory.

QEMU's own tree of the same machine, with three things added: the register page is reserved (no-map:
Linux leaves it to ioremap), an arm,smmu-v3 node says where it is, and the PCI host bridge sends all
RequesterIDs through it. /memory cannot be shortened instead: QEMU writes it anew at every start.
"""

import re
import subprocess

# Shared interrupts that neither the machine's devices nor its GICv2m frame use. Linux asks for them
# only where it cannot have MSIs.
_EVENTQ, _PRIQ, _GERROR = 120, 121, 123

_ADDED = """
/ {{
    reserved-memory {{
        #address-cells = <2>;
        #size-cells = <2>;
        ranges;
        smmu-registers@{at:x} {{
            reg = <{high:#x} {low:#x} 0 0x20000>;
            no-map;
        }};
    }};
    faultline_smmu: iommu@{at:x} {{
        compatible = "arm,smmu-v3";
        reg = <{high:#x} {low:#x} 0 0x20000>;
        #iommu-cells = <1>;
        dma-coherent;
        msi-parent = <{msi}>;
        interrupts = <0 {eventq} 1>, <0 {priq} 1>, <0 {gerror} 1>;
        interrupt-names = "eventq", "priq", "gerror";
    }};
}};
"""


def make(tools, cpus, mem, registers, out):
    """Write the tree to `out`.

    cpus       QEMU's arguments that say how many CPUs of which kind
    mem        MiB
    registers  guest address of the register page
    """
    plain = out.with_suffix(".plain")
    command = [str(tools / "bin/qemu-system-aarch64"), "-M", f"virt,gic-version=2,dumpdtb={plain}"]
    command += [*cpus, "-m", str(mem), "-display", "none", "-serial", "null", "-serial", "null"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    dtc = str(tools / "bin/dtc")
    source = subprocess.run(
        [dtc, "-q", "-I", "dtb", "-O", "dts", str(plain)], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    frame = re.search(r"v2m@[0-9a-f]+ \{\s*phandle = <(0x[0-9a-f]+)>", source)
    bridge = re.search(r"pcie@[0-9a-f]+ \{\n", source)
    if not frame or not bridge:
        raise RuntimeError("this QEMU's device tree has no GICv2m frame or no PCI host bridge")
    source = source[: bridge.end()] + (
        "\t\tiommu-map = <0 &faultline_smmu 0 0x10000>;\n" + source[bridge.end() :]
    )
    source += _ADDED.format(
        at=registers,
        high=registers >> 32,
        low=registers & 0xFFFFFFFF,
        msi=frame[1],
        eventq=_EVENTQ,
        priq=_PRIQ,
        gerror=_GERROR,
    )
    subprocess.run(
        [dtc, "-q", "-I", "dts", "-O", "dtb", "-o", str(out)], check=True, input=source, text=True
    )
    plain.unlink()
