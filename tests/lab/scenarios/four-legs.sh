# shellcheck shell=dash
# limit_s: 120
# Four paths to one disk, under one multipath map that others read through. One hangs: it alone is
# down.
scsi_disks add_host=4 vpd_use_hostno=0 num_tgts=1 max_luns=1 dev_size_mb=32 delay=25
within 10000 test -b /dev/sdd || fail "there are no four disks"
modprobe dm_multipath
modprobe dm_round_robin
legs=
for leg in sda sdb sdc sdd; do legs="$legs $(cat /sys/block/$leg/dev) 1"; done
dmsetup create map --uuid mpath-lab \
    --table "0 $(blockdev --getsz /dev/sda) multipath 1 queue_if_no_path 0 1 1 round-robin 0 4 1$legs"
daemon /dev/sda /dev/sdb /dev/sdc /dev/sdd
all_up /dev/sda /dev/sdb /dev/sdc /dev/sdd
group=$(field /dev/sda group)
[ "$group" != null ] || fail "the paths belong to no group"
for path in /dev/sdb /dev/sdc /dev/sdd; do
    [ "$(field $path group)" = "$group" ] || fail "$path is in group $(field $path group), not $group"
done
for leg in sda sdb sdc sdd; do
    hctl=$(basename "$(readlink /sys/block/$leg/device)")
    shown="$(field /dev/$leg hctl) $(field /dev/$leg map) $(field /dev/$leg vendor) $(field /dev/$leg model)"
    [ "$shown" = "$hctl map Linux scsi_debug" ] || fail "of $leg it says: $shown"
    adapter=$(field /dev/$leg topology | jq -r .adapter)
    [ "$adapter" = "host${hctl%%:*}" ] || fail "the adapter of $leg is $adapter, it says"
done
lab-helper load read /dev/mapper/map 8 4096 &
sleep 1

silence sdb
comes_down "$(now_ms)" 5000 /dev/sdb
sleep 5
for path in /dev/sda /dev/sdc /dev/sdd; do
    never $path down
    never $path marginal
    is $path up || fail "$path is $(field $path state)"
done
release sdb
all_up /dev/sdb
