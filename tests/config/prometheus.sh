#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Debian's Prometheus, unpacked in the cache; nothing is installed and nothing needs root.
#
#   --path    where it is; nothing if it is not there
#   --fetch   the same, made if it is not there; exit 77 with the reason on stdout if it cannot be had
#
# In the directory: usr/bin/ with prometheus and promtool, linked to nothing but libc.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../support/debs.sh"

dir=$(faultline_cache)/prometheus

cached() { find "$dir" -maxdepth 1 -name 'root-*' -type d 2>/dev/null | sort -V | tail -n 1; }

fetch() {
  command -v apt-get >/dev/null || skip "Prometheus is fetched by apt-get, which is not here"
  mkdir -p "$dir"
  exec {lock}>"$dir/lock"
  flock "$lock"
  local found work deb
  found=$(cached)
  if [[ -n $found ]]; then
    echo "$found"
    return
  fi
  work=$(mktemp -d "$dir/work.XXXXXX")
  trap "rm -rf '$work'" EXIT
  private_apt "$work" "$(dpkg --print-architecture)" < <(debian_targets) &&
    (cd "$work/cache/archives" && apt_get download prometheus) ||
    skip "Debian's prometheus cannot be reached: $(apt_complaint)"
  deb=$(echo "$work"/cache/archives/prometheus_*.deb)
  dpkg -x "$deb" "$work/root"
  rm -rf "$work"/root/usr/share/{doc,man,lintian}
  "$work/root/usr/bin/promtool" --version >/dev/null 2>"$work/error" ||
    skip "Debian's prometheus does not run on this system: $(head -n 1 "$work/error")"
  found=$dir/root-$(dpkg-deb --field "$deb" Version)
  mv -T "$work/root" "$found"
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
