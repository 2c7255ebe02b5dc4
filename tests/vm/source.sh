#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The kernel source that the virtual machines' kernels are built from: Debian's newest linux-source
# of trixie-backports (Debian 12's own is older than vEVENTQ), unpacked in the cache once.
#
#   --path    the newest one in the cache; nothing if there is none
#   --fetch   the same, fetched if there is none; exit 77 with the reason on stdout if that fails
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../support/debs.sh"

oldest=6.15 # the first with IOMMU_VEVENTQ_ALLOC
dir=$(faultline_cache)/vm

cached() {
  find "$dir" -maxdepth 1 -name 'linux-*' -type d 2>/dev/null | sort -V | tail -n 1
}

fetch() {
  mkdir -p "$dir"
  exec {lock}>"$dir/source.lock"
  flock "$lock"
  local found work package version tar
  found=$(cached)
  if [[ -n $found ]]; then
    echo "$found"
    return
  fi
  work=$(mktemp -d "$dir/source.XXXXXX")
  trap "rm -rf '$work'" EXIT
  echo "fl: fetching Debian's kernel source (about 170 MB)" >&2
  private_apt "$work" "$(dpkg --print-architecture)" <<<"$(debian_mirror) trixie-backports main" ||
    skip "trixie-backports cannot be reached: $(apt_complaint)"
  package=$(apt_cache search --names-only '^linux-source-[0-9.]+$' | cut -d' ' -f1 | sort -V | tail -n 1)
  [[ -n $package ]] || skip "trixie-backports has no linux-source"
  [[ $(printf '%s\n' "$oldest" "${package#linux-source-}" | sort -V | head -n 1) == "$oldest" ]] ||
    skip "$package is older than Linux $oldest"
  version=$(apt_cache show --no-all-versions "$package" | sed -n 's/^Version: //p' | head -n 1)
  (cd "$work" && apt_get download "$package") ||
    skip "$package cannot be fetched: $(apt_complaint)"
  echo "fl: unpacking $package $version" >&2
  dpkg-deb --fsys-tarfile "$work/$package"_*.deb |
    tar -x -C "$work" --strip-components=3 --wildcards './usr/src/*.tar.xz'
  tar=("$work"/linux-source-*.tar.xz)
  mkdir "$work/source"
  tar -xJf "${tar[0]}" -C "$work/source" --strip-components=1
  found=$dir/linux-$version
  mv -T "$work/source" "$found"
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
