# SPDX-License-Identifier: BSD-3-Clause
# What the machine `service` checks, run by systemd itself. Prints what tests/vm/machine.py reads.
# One VMM plays from the second case to the last but two, over everything that happens to its service.
unit=faultlined@0.service
socket=faultlined@0.socket
path=/run/faultline/node-0.sock
result=/run/vmm/result.json

# check NAME COMMAND...: one case.
failed=0
check() {
  local name=$1
  shift
  if "$@"; then
    echo "[       OK ] Service.$name"
  else
    echo "[  FAILED  ] Service.$name"
    failed=1
    systemctl status --no-pager -l "$unit" vmm.service 2>&1 | sed 's/^/| /'
    journalctl --no-pager -o cat -n 40 2>&1 | sed 's/^/| /'
  fi
}

# soon COMMAND...: becomes true; the bound only ends a hang.
soon() {
  local n=0
  until "$@"; do
    n=$((n + 1))
    [ "$n" -lt 3000 ] || return 1
    sleep 0.1
  done
}

property() { systemctl show -p "$2" --value "$1"; }
is() { [ "$(property "$unit" "$1")" = "$2" ]; }
pid() { property "$unit" MainPID; }
restarts() { property "$unit" NRestarts; }
stored() { property "$unit" NFileDescriptorStore; }
says() { sed -n "s/^$2:[[:space:]]*//p" "$1"; }
running() { is ActiveState active && is SubState running; }
vmm_runs() { [ "$(property vmm.service SubState)" = running ]; }

socket_comes_first() {
  systemctl enable --now "$socket" && is ActiveState inactive &&
    [ "$(stat -c '%F %a %U %G' "$path")" = "socket 660 faultline faultline" ]
}

attached() { running && [ "$(stored)" -gt 10 ]; }
a_vmm_activates_it() {
  systemctl start vmm.service && soon attached && vmm_runs
}

# Every thread of it, by its own account.
locked_down() {
  local status threads=0
  for status in /proc/"$(pid)"/task/*/status; do
    [ "$(says "$status" Seccomp)" = 2 ] && [ "$(says "$status" NoNewPrivs)" = 1 ] || return 1
    for set in CapInh CapPrm CapEff CapBnd CapAmb; do
      [ "$(says "$status" $set)" = 0000000000000000 ] || return 1
    done
    case " $(says "$status" Uid) $(says "$status" Gid) " in *[!0-9]0[!0-9]*) return 1 ;; esac
    [ "$(says "$status" Mems_allowed_list)" = 0 ] || return 1
    threads=$((threads + 1))
  done
  [ "$threads" -gt 1 ]
}

# again HOW...: it is started again, another process, with all that was stored, and the VMM goes on.
again() {
  local before_pid before_stored before_restarts
  before_pid=$(pid)
  before_stored=$(stored)
  before_restarts=$(restarts)
  "$@" || return 1
  came_back() { [ "$(pid)" != "$before_pid" ] && running; }
  soon came_back && [ "$(stored)" = "$before_stored" ] && vmm_runs || return 1
  taken_up=$((taken_up + 1))
  restarted=$(($(restarts) - before_restarts))
}
taken_up=0

kill_it() { kill -9 "$(pid)"; }
killed() { again kill_it && [ "$restarted" = 1 ]; }

hang_it() { kill -STOP "$(pid)"; }
hung() {
  again hang_it && [ "$restarted" = 1 ] &&
    journalctl --no-pager -o cat -u "$unit" | grep -q 'Watchdog timeout'
}

drained_and_restarted() { again systemctl restart "$unit"; }

refused_twice() {
  local before said
  before=$(pid)
  said=$(su -s /bin/sh faultline -c \
    '/usr/bin/faultlined --node 0 --config /etc/faultline/faultline.toml' 2>&1) && return 1
  echo "| $said"
  [ "$(echo "$said" | wc -l)" = 1 ] && running && [ "$(pid)" = "$before" ]
}

# The VMM saw every restart, and its ledgers say that nothing was lost on the way.
audit_is_clean() {
  local status
  systemctl stop vmm.service
  status=$(property vmm.service ExecMainStatus)
  sed 's/^/| /' "$result"
  [ "$(property vmm.service Result)" = success ] && [ "$status" = 0 ] &&
    [ "$(sed -n 's/.*"reattached": *\([0-9]*\).*/\1/p' "$result")" -ge "$taken_up" ] &&
    grep -q '"findings": *\(null\|\[\]\)' "$result"
}

stops_cleanly() {
  systemctl stop "$unit" && is ActiveState inactive && is Result success &&
    is ExecMainStatus 0 && [ "$(stored)" = 0 ] && [ -S "$path" ]
}

socket_goes() { systemctl disable --now "$socket" && [ ! -e "$path" ]; }

echo "vm: begin service"
check SocketComesFirst socket_comes_first
check AVmmActivatesIt a_vmm_activates_it
check IsLockedDownInEveryThread locked_down
check ComesBackAfterAKillWithAllThatWasStored killed
check ComesBackAfterAHang hung
check RefusesASecondOneForItsNode refused_twice
check KeepsItsGuestsOverARestart drained_and_restarted
check ComesBackAfterAnotherKill killed
check LostNothingOfTheVmmsGuests audit_is_clean
check StopsCleanly stops_cleanly
check SocketGoesLast socket_goes
echo "vm: end service $failed"
echo "vm: done"
