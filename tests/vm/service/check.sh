# SPDX-License-Identifier: BSD-3-Clause
# What the machine `service` checks, run by systemd itself. Prints what tests/vm/machine.py reads.
unit=faultlined@0.service
socket=faultlined@0.socket

echo "vm: begin service"
failed=0

# check NAME COMMAND...: one case.
check() {
  local name=$1
  shift
  if "$@"; then
    echo "[       OK ] Service.$name"
  else
    echo "[  FAILED  ] Service.$name"
    failed=1
    systemctl status --no-pager -l "$unit" 2>&1 | sed 's/^/| /'
    journalctl --no-pager -n 30 2>&1 | sed 's/^/| /'
  fi
}

# soon COMMAND...: becomes true; the bound only ends a hang.
soon() {
  local n=0
  until "$@"; do
    n=$((n + 1))
    [ "$n" -lt 1200 ] || return 1
    sleep 0.1
  done
}

property() { systemctl show -p "$2" --value "$1"; }
is() { [ "$(property "$unit" "$1")" = "$2" ]; }
pid() { property "$unit" MainPID; }
restarts() { property "$unit" NRestarts; }
word() { sed -n "s/^$2:[[:space:]]*//p" "/proc/$1/status"; }

socket_activates() {
  systemctl enable --now "$socket" && is ActiveState inactive && [ -S /run/faultline/node-0.sock ] &&
    systemctl start "$unit" && is ActiveState active
}
check SocketComesFirst socket_activates
check IsReady is SubState running
locked_down() {
  local p
  p=$(pid)
  [ "$(word "$p" Seccomp)" = 2 ] && [ "$(word "$p" NoNewPrivs)" = 1 ] &&
    [ "$(word "$p" CapEff)" = 0000000000000000 ] && [ "$(word "$p" CapBnd)" = 0000000000000000 ] &&
    [ "$(stat -c %U "/proc/$p/status")" != xx ]
  cat /proc/$p/status | sed 's/^/| /'
}
check IsLockedDown locked_down
killed() {
  local before
  before=$(restarts)
  kill -9 "$(pid)"
  later() { [ "$(restarts)" -gt "$before" ] && is SubState running; }
  soon later
}
check ComesBackAfterAKill killed
systemctl status --no-pager -l "$unit" 2>&1 | sed 's/^/| /'

echo "vm: end service $failed"
echo "vm: done"
