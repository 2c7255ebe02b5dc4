#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# What runs the virtual machines, in a directory of its own in the cache: QEMU of bookworm-backports
# (Debian 12's own has no two-stage SMMUv3), UEFI for arm64, busybox for both architectures, the
# device tree compiler. Nothing is installed and nothing needs root.
#
#   --path    where it is; nothing if it is not there
#   --fetch   the same, made if it is not there; exit 77 with the reason on stdout if it cannot be had
#
# In the directory: bin/ with programs that find their libraries and data themselves
# (qemu-system-aarch64, qemu-system-x86_64, dtc), QEMU_EFI.fd, busybox-arm64, busybox-amd64.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../support/debs.sh"

packages=(
  qemu-system-arm qemu-system-x86 qemu-efi-aarch64 device-tree-compiler
  busybox-static
)
dir=$(faultline_cache)/vm
key=$(printf '%s\n' 2 "${packages[@]}" | sha256sum | cut -c1-12)

cached() { find "$dir" -maxdepth 1 -name "tools-$key-*" -type d 2>/dev/null | sort -V | tail -n 1; }

# wrapper PATH-IN-ROOT [ARGUMENTS]: a program under bin/ that runs it with the libraries beside it.
wrapper() {
  cat >"$fresh/bin/${1##*/}" <<W
#!/bin/sh
top=\$(dirname "\$(dirname "\$(readlink -f "\$0")")")
export LD_LIBRARY_PATH="\$top/root/lib/x86_64-linux-gnu:\$top/root/usr/lib/x86_64-linux-gnu:\$top/root/usr/lib/x86_64-linux-gnu/pulseaudio"
exec "\$top/root/$1" ${2-} "\$@"
W
  chmod +x "$fresh/bin/${1##*/}"
}

fetch() {
  mkdir -p "$dir"
  exec {lock}>"$dir/tools.lock"
  flock "$lock"
  local found work fresh deb mirror version
  found=$(cached)
  if [[ -n $found ]]; then
    echo "$found"
    return
  fi
  [[ $(dpkg --print-architecture) == amd64 ]] || skip "the virtual machines' tools are for amd64 hosts"
  work=$(mktemp -d "$dir/tools.XXXXXX")
  trap "rm -rf '$work'" EXIT
  fresh=$work/fresh
  mkdir -p "$fresh"/{root,bin}
  echo "fl: fetching QEMU, UEFI and busybox for virtual machines (about 60 MB)" >&2
  mirror=$(debian_mirror)
  private_apt "$work" amd64 arm64 \
    < <(debian_targets && echo "$mirror bookworm-backports main") &&
    apt_get -y --no-install-recommends -t bookworm-backports --download-only install \
      "${packages[@]}" &&
    (cd "$work/cache/archives" && apt_get download busybox-static:arm64) ||
    skip "QEMU of bookworm-backports cannot be reached: $(apt_complaint)"
  version=$(cd "$work/cache/archives" && echo qemu-system-arm_*.deb)
  version=$(dpkg-deb --field "$work/cache/archives/$version" Version)
  for deb in "$work"/cache/archives/*.deb; do
    case ${deb##*/} in
    # Those of the host are at least as new, and its loader goes with its libc.
    libc6_* | libc-bin_* | libgcc-s1_* | libstdc++6_* | dpkg_* | perl*) ;;
    busybox-static_*_arm64.deb)
      mkdir "$work/arm64" && dpkg -x "$deb" "$work/arm64"
      find "$work/arm64" -path '*bin/busybox' -exec cp {} "$fresh/busybox-arm64" \;
      ;;
    *_arm64.deb) ;;
    busybox-static_*)
      mkdir "$work/amd64" && dpkg -x "$deb" "$work/amd64"
      find "$work/amd64" -path '*bin/busybox' -exec cp {} "$fresh/busybox-amd64" \;
      ;;
    *) dpkg -x "$deb" "$fresh/root" ;;
    esac
  done
  rm -rf "$fresh"/root/usr/share/{doc,man,locale,info}
  cp "$fresh/root/usr/share/qemu-efi-aarch64/QEMU_EFI.fd" "$fresh/"
  local data='-L "$top/root/usr/share/qemu" -L "$top/root/usr/share/seabios" -L "$top/root/usr/lib/ipxe/qemu"'
  wrapper usr/bin/qemu-system-aarch64 "$data"
  wrapper usr/bin/qemu-system-x86_64 "$data"
  wrapper usr/bin/dtc
  local program
  for program in qemu-system-aarch64 qemu-system-x86_64; do
    "$fresh/bin/$program" --version >/dev/null 2>"$work/error" ||
      skip "QEMU $version does not run on this system: $(head -n 1 "$work/error")"
  done
  found=$dir/tools-$key-${version##*:}
  mv -T "$fresh" "$found"
  echo "$found"
}

case ${1-} in
--path) cached ;;
--fetch) fetch ;;
*)
  echo "usage: $0 --path | --fetch" >&2
  exit 2
  ;;
esac
