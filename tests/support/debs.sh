# SPDX-License-Identifier: BSD-3-Clause
# Sourced by scripts that need Debian packages beside the system: a private apt state, so that
# nothing of the user's apt configuration, lists or packages is read for writing or changed, and
# the cache directory where what they make is kept for all checkouts.

# The directory, made if it was not there.
faultline_cache() {
  local cache=${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}
  mkdir -p "$cache/faultline" 2>/dev/null && [[ -w $cache/faultline ]] || cache=$PWD/build
  mkdir -p "$cache/faultline"
  echo "$cache/faultline"
}

# The scripts' way to say that something cannot be had here: one line, exit status 77.
skip() {
  echo "$*"
  exit 77
}

# Debian's own archives as this machine reaches them: "MIRROR SUITE COMPONENT" lines. Other origins
# do not matter here.
debian_targets() {
  local found
  found=$(apt-get indextargets 'Created-By: Packages' 'Origin: Debian' \
    --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 2>/dev/null | sort -u || true)
  [[ -n $found ]] || found=$(printf '%s\n' 'http://deb.debian.org/debian bookworm main' \
    'http://deb.debian.org/debian-security bookworm-security main')
  echo "$found"
}

# The mirror that has the backports suites.
debian_mirror() {
  debian_targets | awk '$2 == "bookworm" { print $1; found = 1; exit }
    END { if (!found) print "http://deb.debian.org/debian" }'
}

# private_apt DIR ARCHITECTURE...: an empty state in DIR for targets ("MIRROR SUITE COMPONENT" lines)
# on stdin, lists fetched. The first architecture is the native one. Afterwards `apt_get` and
# `apt_cache` work on it; what they say goes to DIR/log. Fails when the archives cannot be reached.
private_apt() {
  local dir=$1 signed='' mirror suite component architectures
  shift
  mkdir -p "$dir"/{lists/partial,cache/archives/partial,parts}
  : >"$dir/status"
  [[ -f /usr/share/keyrings/debian-archive-keyring.gpg ]] &&
    signed='signed-by=/usr/share/keyrings/debian-archive-keyring.gpg'
  architectures=$(IFS=, && echo "$*")
  while read -r mirror suite component; do
    echo "deb [arch=$architectures $signed] $mirror $suite $component"
  done >"$dir/sources.list"
  apt_log=$dir/log
  apt_options=(
    -qq
    -o APT::Architecture="$1" -o APT::Architectures="$architectures"
    -o Dir::Etc::sourcelist="$dir/sources.list" -o Dir::Etc::sourceparts="$dir/parts"
    -o Dir::State::lists="$dir/lists" -o Dir::State::status="$dir/status"
    -o Dir::Cache="$dir/cache" -o APT::Sandbox::User="$(id -un)" -o Acquire::Retries=3
    -o Acquire::http::Timeout=20 -o Debug::NoLocking=1 -o Acquire::Languages=none
    # An older suite is not renewed as often as apt likes.
    -o Acquire::Check-Valid-Until=false
  )
  apt_get update
}

apt_get() { apt-get "${apt_options[@]}" "$@" >>"$apt_log" 2>&1 </dev/null; }
apt_cache() { apt-cache "${apt_options[@]}" "$@" 2>>"$apt_log" </dev/null; }

# The last thing apt complained of.
apt_complaint() { grep -E '^(E|W|Err)' "$apt_log" | tail -n 1; }
