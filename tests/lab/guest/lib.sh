# shellcheck shell=dash
# What scenarios are written with. They run under `sh -eu` of busybox, as root, alone in the
# machine. No command may read or write a device that hangs: it would never return.

http=127.0.0.1:9464
# How the daemon watches; a scenario may set others first.
interval=500ms
timeout=1s
# dmsetup makes the nodes of its maps: there is no udev.
export DM_DISABLE_UDEV=1

# Ends the scenario: `fail REASON`, `skip REASON`.
fail() {
    echo "FAILED $*" >/run/told
    echo "--- FAILED $*"
    exit 1
}

skip() {
    echo "SKIPPED: $*" >/run/told
    exit 0
}

# Time since the machine's start.
now_ms() {
    local up rest
    read -r up rest </proc/uptime
    : "$rest"
    echo "${up%.*}${up#*.}0"
}

# within MS COMMAND...: waits until the command succeeds.
within() {
    local until_ms=$(($(now_ms) + $1))
    shift
    until "$@"; do
        [ "$(now_ms)" -lt "$until_ms" ] || return 1
        usleep 50000
    done
}

# get RESOURCE: what the daemon answers.
get() {
    wget -q -T 5 -O - "http://$http/$1"
}

is_healthy() {
    get healthz >/dev/null 2>&1
}

# daemon ARGUMENT...: starts one, $daemon, and waits until it answers. Its events are in
# /run/events.
# shellcheck disable=SC2034 # Scenarios use it.
daemon() {
    pathpulse run --interval "$interval" --timeout "$timeout" --http "$http" "$@" 2>>/run/log &
    daemon=$!
    within 20000 is_healthy || fail "the daemon does not start"
    pathpulse events --follow --format json >/run/events &
}

# field PATH NAME: of the path's status.
field() {
    get v1/status | jq -r --arg path "$1" --arg name "$2" '.paths[] | select(.path == $path)[$name]'
}

is() {
    [ "$(field "$1" state)" = "$2" ]
}

# all_up PATH...: waits for it.
all_up() {
    local path
    for path in "$@"; do
        within 15000 is "$path" up || fail "$path is not up at first"
    done
}

# The HTTP status of /livez for a path.
livez() {
    wget -S -q -T 10 -O /dev/null "http://$http/livez?path=$1" 2>&1 |
        sed -n 's/.*HTTP\/1\.1 \([0-9]*\).*/\1/p' | head -n 1
}

livez_is() {
    [ "$(livez "$1")" = "$2" ]
}

# happened PATH STATE: it came into this state since the daemon's start.
happened() {
    grep "\"path\":\"$1\"" /run/events | grep -q "\"to\":\"$2\""
}

# comes_down SINCE_MS LIMIT_MS PATH: the path goes down so long after a moment, at most.
comes_down() {
    within $(($2 + 10000)) happened "$3" down || fail "$3 does not go down"
    local took=$(($(now_ms) - $1))
    echo "$3 is down after $took ms"
    [ "$took" -le "$2" ] || fail "$3 is down after $took ms only, more than $2"
}

# never PATH STATE: it did not come into this state until now.
never() {
    if happened "$1" "$2"; then fail "$1 was $2"; fi
}

# has_cause PATH STATE CAUSE
has_cause() {
    is "$1" "$2" && [ "$(field "$1" cause)" = "$3" ]
}

# pause order|signal SECONDS: stops the whole machine, by QEMU's own order or by a signal to QEMU.
pause() {
    local answer
    echo "pause $1 $2" >&7
    read -r answer <&7
    echo "$answer by $1, at $(now_ms) ms"
}

# scsi_disks PARAMETER...: loads scsi_debug, and waits for its disks.
scsi_disks() {
    modprobe sd_mod
    modprobe scsi_debug "$@"
    within 10000 test -b /dev/sda || fail "scsi_debug makes no disk"
}

# rule DISK RULE: of scsi_debug's error injection, as `rule sda '1 1 0x28 0x1055'`.
rule() {
    echo "$2" >"/sys/kernel/debug/scsi_debug/$(basename "$(readlink "/sys/block/$1/device")")/error"
}

# The disk hands back whatever it is given, for ever; and takes it again.
silence() { rule "$1" '1 1 0x28 0x1055'; }
release() { rule "$1" '- 1 0x28'; }

# linear NAME DEVICE: a map over a whole device.
linear() {
    dmsetup create "$1" --table "0 $(blockdev --getsz "$2") linear $2 0"
}

# nbd_disk: /dev/nbd0 of a server that obeys `tell_nbd COMMAND`.
nbd_disk() {
    modprobe nbd nbds_max=1
    mkfifo /run/nbd.orders
    lab-helper nbd 127.0.0.1:10809 64 </run/nbd.orders &
    exec 9>/run/nbd.orders
    within 5000 nbd-client -N lab 127.0.0.1 10809 /dev/nbd0 2>/dev/null || fail "nbd does not connect"
    within 5000 nbd_has_size || fail "nbd0 has no size"
}

nbd_has_size() { [ "$(cat /sys/block/nbd0/size)" != 0 ]; }

tell_nbd() { echo "$*" >&9; }
