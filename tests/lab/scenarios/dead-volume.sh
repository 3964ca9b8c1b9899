# shellcheck shell=dash
# limit_s: 150
# The disk below a volume answers nothing any more, and 300 readers hang on it. dm counts our own
# refused reads as completed: the volume must go down all the same, as must what lies on a volume,
# on a partition, encrypted, or on a driver that blocks.
#
# The disks of scsi_debug take 100 ms for a read and have few tags: 300 readers fill them, and leave
# the machine's processors alone.
scsi_disks add_host=2 vpd_use_hostno=1 dev_size_mb=32 num_parts=2 max_queue=32 delay=25
within 10000 test -b /dev/sda2 || fail "there are no partitions"
linear low /dev/sda1
linear high /dev/mapper/low
key=$(head -c 64 /dev/zero | tr '\0' 7)
dmsetup create crypt --table "0 $(blockdev --getsz /dev/sda2) crypt aes-xts-plain64 $key 0 /dev/sda2 0"
nbd_disk
linear remote /dev/nbd0
linear busy /dev/sdb
dead="/dev/mapper/low /dev/mapper/high /dev/mapper/crypt /dev/mapper/remote"
# shellcheck disable=SC2086 # Words.
daemon $dead /dev/mapper/busy
# shellcheck disable=SC2086
all_up $dead /dev/mapper/busy

# This one answers, though all its tags are always taken: it must stay up.
lab-helper load read /dev/mapper/busy 250 4096 &
lab-helper load read /dev/mapper/high 300 4096 &
sleep 2
silence sda
tell_nbd hold
silenced=$(now_ms)
lab-helper load read /dev/mapper/remote 300 4096 &
for path in $dead; do
    # An interval and two timeouts are promised; the rest is for a machine that is emulated.
    comes_down "$silenced" 5000 "$path"
done
for path in $dead; do
    livez_is "$path" 503 || fail "/livez of $path: $(livez "$path")"
done
sleep 5
never /dev/mapper/busy down
for path in $dead; do
    is "$path" down || fail "$path is $(field "$path" state) again"
done
