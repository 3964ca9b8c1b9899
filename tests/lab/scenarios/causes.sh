# shellcheck shell=dash
# limit_s: 120
# Each way to fail that the kernel tells apart has its own cause (the table of src/health/fault.rs).
scsi_disks add_host=7 vpd_use_hostno=1
within 10000 test -b /dev/sdg || fail "there are no seven disks"
daemon /dev/sd[a-g]
all_up /dev/sd[a-g]

# opcode, host byte, driver byte, status, sense key, additional sense code and its qualifier
rule sda '2 1 0x28 0 0 2 3 0x11 0' # medium error: unrecovered read error
rule sdb '2 1 0x28 1 0 0 0 0 0'    # DID_NO_CONNECT
rule sdc '2 1 0x28 0 0 2 5 0x21 0' # illegal request: block address out of range
rule sdd '2 1 0x28 0 0 0x18 0 0 0' # reservation conflict
rule sde '0 1 0x28'                # no answer
echo offline >/sys/block/sdf/device/state

expect() {
    within 10000 has_cause "$1" "$2" "$3" ||
        fail "$1 is $(field "$1" state) ($(field "$1" cause)), not $2 ($3)"
    local errno
    errno=$(field "$1" errno)
    [ "$errno" = "$4" ] || fail "$1: errno $errno, not $4"
}
expect /dev/sda down medium_error ENODATA
expect /dev/sdb down io_error EIO
expect /dev/sdc down target_error EREMOTEIO
expect /dev/sdd up reservation_conflict EBADE
expect /dev/sde down timed_out null
expect /dev/sdf down offline null
expect /dev/sdg up good null

for disk in sda sdb sdc sdd; do rule "$disk" '- 2 0x28'; done
echo running >/sys/block/sdf/device/state
all_up /dev/sda /dev/sdb /dev/sdc /dev/sdd /dev/sdf
never /dev/sdg down
