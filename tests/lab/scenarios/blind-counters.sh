# shellcheck shell=dash
# limit_s: 120
# Block layer's statistics are switched off (queue/iostats), so all its counters stand still. A SCSI
# disk has counters of its own: one that is busy stays up, one that is silent goes down. With none
# at all a device that lets no read in for a whole timeout is down.
scsi_disks dev_size_mb=32 max_queue=8 delay=25
nbd_disk
echo 0 >/sys/block/sda/queue/iostats
echo 0 >/sys/block/nbd0/queue/iostats
daemon /dev/sda /dev/nbd0
all_up /dev/sda /dev/nbd0
lab-helper load read /dev/sda 100 4096 &
sleep 8
never /dev/sda down

silence sda
tell_nbd hold
silenced=$(now_ms)
lab-helper load read /dev/nbd0 200 4096 &
comes_down "$silenced" 5000 /dev/sda
comes_down "$silenced" 6000 /dev/nbd0

release sda
all_up /dev/sda
