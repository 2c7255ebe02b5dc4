#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A small kernel for virtual machines, from Debian's kernel source and a fragment in kernels/. Built
# once and kept in the cache for every checkout: by the exact version of the source, the fragment and
# the compiler.
#
#   --path NAME     the directory of the kernel of kernels/NAME.config; nothing if it is not built
#   --build NAME    the same, built if it is not there; exit 77 with the reason on stdout when its
#                   source cannot be had or building takes longer than any machine needs
#   --source NAME   the source tree it was built from
#
# In the directory: `image` (what QEMU boots), `build` (the build tree, for modules and .config).
# The fragment's head says what to build:  # arch: arm64 | x86_64   # targets: Image modules_prepare
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../support/debs.sh"

name=${2-}
fragment=$here/kernels/$name.config
[[ -n $name && -f $fragment ]] || {
  echo "usage: $0 --path | --build | --source NAME ($(cd "$here/kernels" && echo *.config))" >&2
  exit 2
}

header() { sed -n "s/^# $1: //p" "$fragment"; }
arch=$(header arch)
case $arch in
arm64) cross=aarch64-linux-gnu- image=arch/arm64/boot/Image ;;
x86_64) cross='' image=arch/x86/boot/bzImage ;;
*)
  echo "$fragment: no '# arch:' line that is known" >&2
  exit 2
  ;;
esac
dir=$(faultline_cache)/vm
key=$({
  cat "$fragment"
  "${cross}gcc" --version 2>/dev/null | head -n 1
} | sha256sum | cut -c1-12)

# The newest; a newer source in Debian does not make it stale, a changed fragment does.
built() { find "$dir" -maxdepth 1 -name "kernel-$name-$key-*" -type d 2>/dev/null | sort -V | tail -n 1; }

build() {
  mkdir -p "$dir"
  exec {lock}>"$dir/kernel-$name.lock"
  flock -n "$lock" || {
    echo "fl: waiting for another build of the $name kernel" >&2
    flock "$lock"
  }
  local ready source version part log ticker maker make started=$SECONDS status=0
  ready=$(built)
  if [[ -n $ready ]]; then
    echo "$ready"
    return
  fi
  command -v "${cross}gcc" >/dev/null || skip "no ${cross}gcc"
  source=$("$here/source.sh" --fetch) || {
    local code=$?
    echo "$source"
    exit "$code"
  }
  version=${source##*/linux-}
  part=$dir/part-$name-$key # kept when a build is cut off: the next one goes on from there
  log=$part/log
  mkdir -p "$part/build"
  # Objects that the kernels share are compiled once.
  local cc=${cross}gcc host=gcc
  if command -v ccache >/dev/null; then
    cc="ccache $cc" host="ccache $host"
    export CCACHE_BASEDIR=$dir CCACHE_NOHASHDIR=1
  fi
  export KBUILD_BUILD_TIMESTAMP='1970-01-01' KBUILD_BUILD_USER=faultline KBUILD_BUILD_HOST=faultline
  make=(make -C "$source" O="$part/build" ARCH="$arch" CROSS_COMPILE="$cross" CC="$cc" HOSTCC="$host")
  "${make[@]}" KCONFIG_ALLCONFIG="$fragment" allnoconfig >"$log" 2>&1 </dev/null ||
    { tail -n 5 "$log" >&2; return 1; }
  # allnoconfig drops without a word what misses a dependency.
  local line lost=()
  while read -r line; do
    grep -qxF "$line" "$part/build/.config" || lost+=("$line")
  done < <(grep '^CONFIG_.*=' "$fragment")
  if ((${#lost[@]})); then
    echo "fl: kernels/$name.config: not taken by $version: ${lost[*]}" >&2
    return 1
  fi
  echo "fl: building the $name kernel ($arch, $version), 4 to 10 minutes" >&2
  (
    while sleep 30 && kill -0 $$ 2>/dev/null; do
      echo "fl: $name kernel: $(grep -cE '^  (CC|AS) ' "$log") files, $((SECONDS - started)) s" >&2
    done
  ) >&2 {lock}>&- & # stdout is read to its end by who asked for the kernel
  ticker=$!
  # Not in the foreground, so that a signal ends the wait, and what is waited for with it. make has
  # the lock, too: after a kill that no trap sees, nobody else builds beside it.
  # shellcheck disable=SC2046
  timeout 2400 "${make[@]}" -j"$(nproc)" $(header targets) >>"$log" 2>&1 </dev/null &
  maker=$!
  trap "kill $ticker $maker 2>/dev/null || true" EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
  wait "$maker" || status=$?
  trap - EXIT INT TERM HUP
  kill "$ticker" 2>/dev/null || true
  ((status != 124)) || skip "the $name kernel was not built in 40 minutes"
  if ((status)); then
    grep -E 'error|Error|\*\*\*' "$log" | tail -n 5 >&2 || tail -n 5 "$log" >&2
    echo "fl: building the $name kernel failed (whole log: $log)" >&2
    return 1
  fi
  cp "$part/build/$image" "$part/image"
  [[ $(header targets) == *modules_prepare* ]] || find "$part/build" -name '*.o' -delete
  echo "$source" >"$part/source"
  ready=$dir/kernel-$name-$key-$version
  # The build tree holds its own path in its Makefile only as the source's; it may be moved.
  mv -T "$part" "$ready"
  echo "fl: built the $name kernel in $((SECONDS - started)) s" >&2
  echo "$ready"
}

case $1 in
--path) built ;;
--build) build ;;
--source)
  found=$(built)
  [[ -z $found ]] || cat "$found/source"
  ;;
esac
