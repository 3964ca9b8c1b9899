# shellcheck shell=dash
# limit_s: 120
# A mirror is up as long as one of its legs answers, and down when both are silent.
scsi_disks add_host=2 vpd_use_hostno=1 dev_size_mb=32 max_queue=32 delay=25
modprobe raid1
mdadm --build /dev/md0 --level=1 --raid-devices=2 --assume-clean --run /dev/sda /dev/sdb
daemon /dev/sda /dev/sdb /dev/md0
all_up /dev/sda /dev/sdb /dev/md0
lab-helper load read /dev/md0 40 4096 &
sleep 1

silence sda
comes_down "$(now_ms)" 5000 /dev/sda
sleep 6
never /dev/md0 down
never /dev/sdb down
livez_is /dev/md0 200 || fail "/livez of a mirror with one dead leg: $(livez /dev/md0)"

silence sdb
silenced=$(now_ms)
comes_down "$silenced" 5000 /dev/md0
comes_down "$silenced" 6000 /dev/sdb
livez_is /dev/md0 503 || fail "/livez of a mirror with two dead legs: $(livez /dev/md0)"

release sdb
all_up /dev/sdb
