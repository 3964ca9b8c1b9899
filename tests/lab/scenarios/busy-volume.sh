# shellcheck shell=dash
# limit_s: 120
# So many readers that each waits for longer than a timeout, on a disk that answers all the time.
# The disk works, and so does each volume on it: none may be down.
scsi_disks dev_size_mb=32 num_parts=2 max_queue=16 delay=25
within 10000 test -b /dev/sda2 || fail "there are no partitions"
linear low /dev/sda1
linear high /dev/mapper/low
key=$(head -c 64 /dev/zero | tr '\0' 7)
dmsetup create crypt --table "0 $(blockdev --getsz /dev/sda2) crypt aes-xts-plain64 $key 0 /dev/sda2 0"
paths="/dev/sda /dev/mapper/low /dev/mapper/high /dev/mapper/crypt"
# shellcheck disable=SC2086 # Words.
daemon $paths
# shellcheck disable=SC2086
all_up $paths
lab-helper load read /dev/mapper/high 500 4096 &
sleep 15
for path in $paths; do
    never "$path" down
    is "$path" up || fail "$path is $(field "$path" state)"
done
