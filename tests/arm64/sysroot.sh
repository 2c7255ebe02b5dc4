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

packages=(
  libc6-dev libstdc++-12-dev
  libdpdk-dev libtbb-dev libhwloc-dev libexpected-dev libcli11-dev nlohmann-json3-dev
  libtomlplusplus-dev libfmt-dev libzstd-dev libgtest-dev libgmock-dev
)

# One sysroot per set of versions; those of the native packages name it, since both architectures
# are built from one source.
key=$(
  {
    printf '%s\n' "${packages[@]}"
    dpkg-query -W -f '${Package} ${source:Version}\n' "${packages[@]}" 2>/dev/null || true
  } | sha256sum | cut -c1-16
)
cache=${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}
mkdir -p "$cache" 2>/dev/null && [[ -w $cache ]] || cache=$PWD/build
sysroot=$cache/faultline/arm64-$key

skip() {
  echo "$*"
  exit 77
}

fetch() {
  [[ -d $sysroot ]] && return
  local log suite mirror component signed=''
  work=$(mktemp -d) # not local: the trap runs after this function's end
  trap 'rm -rf "$work"' EXIT
  mkdir -p "$work"/{lists/partial,cache/archives/partial,parts,root}
  : >"$work/status"
  log=$work/log
  # Debian's own archives as this machine reaches them; other origins do not matter here.
  apt-get indextargets 'Created-By: Packages' 'Origin: Debian' \
    --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 2>/dev/null | sort -u >"$work/targets" || true
  if [[ ! -s $work/targets ]]; then
    printf '%s\n' 'http://deb.debian.org/debian bookworm main' \
      'http://deb.debian.org/debian-security bookworm-security main' >"$work/targets"
  fi
  [[ -f /usr/share/keyrings/debian-archive-keyring.gpg ]] &&
    signed='signed-by=/usr/share/keyrings/debian-archive-keyring.gpg'
  while read -r mirror suite component; do
    echo "deb [arch=arm64 $signed] $mirror $suite $component"
  done <"$work/targets" >"$work/sources.list"
  local options=(
    -qq
    -o APT::Architecture=arm64 -o APT::Architectures=arm64
    -o Dir::Etc::sourcelist="$work/sources.list" -o Dir::Etc::sourceparts="$work/parts"
    -o Dir::State::lists="$work/lists" -o Dir::State::status="$work/status"
    -o Dir::Cache="$work/cache" -o APT::Sandbox::User="$(id -un)" -o Acquire::Retries=3
    -o Acquire::http::Timeout=20 -o Debug::NoLocking=1 -o Acquire::Languages=none
  )
  echo "fl: fetching the arm64 libraries for cross builds (about 75 MB) into $sysroot" >&2
  apt-get "${options[@]}" update >"$log" 2>&1 </dev/null &&
    apt-get "${options[@]}" -y --no-install-recommends --download-only install \
      "${packages[@]}" >>"$log" 2>&1 </dev/null ||
    skip "the arm64 packages cannot be reached: $(grep -E '^(E|W|Err)' "$log" | tail -n 1)"
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
