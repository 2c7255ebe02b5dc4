#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A sysroot of arm64 libraries for cross builds, beside the system: Debian's libdpdk-dev cannot be
# installed for two architectures at once, so its arm64 packages are unpacked into a cache instead.
# Nothing of the user's apt configuration or state is changed.
#
#   --path        where it is or would be
#   --fetch       make it if it is not there; exit 77 with the reason on stdout if it cannot be had
#   --cross-file  meson's cross file for it
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../support/debs.sh"

packages=(
  libc6-dev libstdc++-12-dev
  libdpdk-dev libtbb-dev libhwloc-dev libexpected-dev libcli11-dev nlohmann-json3-dev
  libtomlplusplus-dev libfmt-dev libzstd-dev libgtest-dev libgmock-dev
  libsystemd-dev libseccomp-dev prometheus-cpp-dev libcpp-httplib-dev libncurses-dev
  libcjson-dev
)

# One sysroot per set of versions; those of the native packages name it, since both architectures
# are built from one source.
key=$(
  {
    printf '%s\n' "${packages[@]}"
    dpkg-query -W -f '${Package} ${source:Version}\n' "${packages[@]}" 2>/dev/null || true
  } | sha256sum | cut -c1-16
)
sysroot=$(faultline_cache)/arm64-$key

fetch() {
  [[ -d $sysroot ]] && return
  work=$(mktemp -d) # not local: the trap runs after this function's end
  trap 'rm -rf "$work"' EXIT
  mkdir "$work/root"
  echo "fl: fetching the arm64 libraries for cross builds (about 75 MB) into $sysroot" >&2
  private_apt "$work" arm64 < <(debian_targets) &&
    apt_get -y --no-install-recommends --download-only install "${packages[@]}" ||
    skip "the arm64 packages cannot be reached: $(apt_complaint)"
  local deb
  for deb in "$work"/cache/archives/*.deb; do
    dpkg -x "$deb" "$work/root"
  done
  # Not needed, and most of the size.
  rm -rf "$work/root/usr/share/doc" "$work"/root/usr/lib/aarch64-linux-gnu/librte_*.a
  # Shared objects are found through absolute links in a few packages: make them relative to here.
  local link target
  while read -r link; do
    target=$(readlink "$link")
    ln -sfn "$work/root$target" "$link"
    ln -sfn "$(realpath -m --relative-to="$(dirname "$link")" "$work/root$target")" "$link"
  done < <(find "$work/root" -type l -lname '/*')
  mkdir -p "$(dirname "$sysroot")"
  # Renamed into place, so that a half-made one is never taken for a whole one.
  local fresh
  fresh=$(mktemp -d "$sysroot.XXXXXX")
  cp -a "$work/root/." "$fresh"
  chmod 755 "$fresh"
  mv -T "$fresh" "$sysroot" 2>/dev/null || rm -rf "$fresh" # another run was sooner
}

cross_file() {
  local ccache=''
  command -v ccache >/dev/null && ccache="'ccache', "
  cat <<C
[binaries]
c = [${ccache}'aarch64-linux-gnu-gcc', '--sysroot=$sysroot']
cpp = [${ccache}'aarch64-linux-gnu-g++', '--sysroot=$sysroot']
ar = 'aarch64-linux-gnu-ar'
strip = 'aarch64-linux-gnu-strip'
pkgconfig = 'pkg-config'
exe_wrapper = ['qemu-aarch64-static', '-L', '$sysroot']

[properties]
sys_root = '$sysroot'
pkg_config_libdir = '$sysroot/usr/lib/aarch64-linux-gnu/pkgconfig:$sysroot/usr/share/pkgconfig'

[host_machine]
system = 'linux'
cpu_family = 'aarch64'
cpu = 'armv8-a'
endian = 'little'
C
}

case ${1-} in
--path) echo "$sysroot" ;;
--fetch) fetch ;;
--cross-file) cross_file ;;
*)
  echo "usage: $0 --path | --fetch | --cross-file" >&2
  exit 2
  ;;
esac
