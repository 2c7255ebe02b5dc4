#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Debian 12's systemd with all that it needs, unpacked in the cache: the root directory of the
# virtual machine `service`. Nothing is installed and nothing needs root.
#
#   --path    where it is; nothing if it is not there
#   --fetch   the same, made if it is not there; exit 77 with the reason on stdout if it cannot be had
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../../support/debs.sh"

packages=(systemd)
dir=$(faultline_cache)/vm
key=$(printf '%s\n' 1 "${packages[@]}" | sha256sum | cut -c1-12)

cached() { find "$dir" -maxdepth 1 -name "debian-$key-*" -type d 2>/dev/null | sort -V | tail -n 1; }

fetch() {
  mkdir -p "$dir"
  exec {lock}>"$dir/debian.lock"
  flock "$lock"
  local found work deb version
  found=$(cached)
  if [[ -n $found ]]; then
    echo "$found"
    return
  fi
  [[ $(dpkg --print-architecture) == amd64 ]] || skip "the service's virtual machine is for amd64 hosts"
  work=$(mktemp -d "$dir/debian.XXXXXX")
  trap "rm -rf '$work'" EXIT
  echo "fl: fetching Debian 12's systemd for a virtual machine (about 25 MB)" >&2
  private_apt "$work" amd64 < <(debian_targets | awk '$2 ~ /^bookworm/') &&
    apt_get -y --no-install-recommends --download-only install "${packages[@]}" ||
    skip "Debian 12's packages cannot be reached: $(apt_complaint)"
  version=$(cd "$work/cache/archives" && echo systemd_*.deb)
  version=$(dpkg-deb --field "$work/cache/archives/$version" Version)
  # Merged /usr, as it is installed: a package's /lib goes through the link.
  mkdir -p "$work"/root/usr/{bin,sbin,lib,lib64}
  local name
  for name in bin sbin lib lib64; do ln -s "usr/$name" "$work/root/$name"; done
  for deb in "$work"/cache/archives/*.deb; do
    case ${deb##*/} in
    # Nothing that would be installed with them runs there.
    dpkg_* | perl* | tar_* | debconf_* | adduser_* | passwd_* | gcc-*-base_*) continue ;;
    esac
    dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$work/root" --keep-directory-symlink --no-same-owner
  done
  rm -rf "$work"/root/usr/share/{doc,man,locale,info,bash-completion,zsh,lintian,bug} \
    "$work"/root/usr/lib/x86_64-linux-gnu/gconv
  found=$dir/debian-$key-${version##*:}
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
