# shellcheck shell=dash
# limit_s: 120
# A limit of the daemon's own cgroup holds its reads above the device. That is not the device's
# fault.
scsi_disks
echo +io >/sys/fs/cgroup/cgroup.subtree_control
mkdir /sys/fs/cgroup/limited
echo "$(cat /sys/block/sda/dev) riops=2" >/sys/fs/cgroup/limited/io.max
echo $$ >/sys/fs/cgroup/limited/cgroup.procs
daemon /dev/sda
all_up /dev/sda

lab-helper load read /dev/sda 6 4096 &
load=$!
says_why() { field /dev/sda message | grep -q cgroup; }
within 15000 says_why || fail "status does not say why it knows nothing: $(field /dev/sda message)"
field /dev/sda message
sleep 8
never /dev/sda down
livez_is /dev/sda 200 || true
kill -KILL $load
echo "$(cat /sys/block/sda/dev) riops=max" >/sys/fs/cgroup/limited/io.max
knows() { is /dev/sda up && [ "$(field /dev/sda message)" = null ]; }
within 15000 knows || fail "it stays so without a limit: $(field /dev/sda message)"
never /dev/sda down
