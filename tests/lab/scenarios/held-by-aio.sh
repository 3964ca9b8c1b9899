# shellcheck shell=dash disable=SC2154
# limit_s: 120
# A daemon that reads by libaio is killed while a silent disk owes it a read: the kernel keeps the
# process. Its successor must start all the same, in two seconds, and name what is held.
scsi_disks
daemon --backend aio /dev/sda
all_up /dev/sda
silence sda
comes_down "$(now_ms)" 5000 /dev/sda
kill -KILL "$daemon"
held=$daemon
sleep 1
[ -e "/proc/$held" ] || fail "the kernel kept nothing: this tests nothing"

answers() { pathpulse status --format json >/run/status 2>/dev/null; }
names_held() { answers && jq -e --argjson pid "$held" 'any(.held_processes[]; .pid == $pid)' /run/status >/dev/null; }
begun=$(now_ms)
pathpulse run --interval 500ms --timeout 1s --backend aio /dev/sda 2>>/run/log &
within 20000 answers || fail "the successor does not start"
took=$(($(now_ms) - begun))
echo "the successor answers after $took ms"
# Two seconds are promised; the rest is for a machine that is emulated.
[ "$took" -le 6000 ] || fail "the successor answers only after $took ms"
within 5000 names_held || fail "status does not name the process that is held: $(cat /run/status)"

release sda
ended() { [ ! -e "/proc/$held" ] || grep -q '^State:.Z' "/proc/$held/status"; }
within 10000 ended || fail "the process is held though the disk answers"
none_held() { answers && jq -e '.held_processes == []' /run/status >/dev/null; }
within 10000 none_held || fail "status names a process that has ended: $(cat /run/status)"
