# shellcheck shell=dash disable=SC2034
# limit_s: 60
# The machine is stopped for longer than a timeout while a read is in flight: no device is to blame.
interval=5s
timeout=2s
modprobe null_blk nr_devices=1 gb=1 queue_mode=2 irqmode=2 completion_nsec=700000000
daemon /dev/nullb0
all_up /dev/nullb0

in_flight() { [ "$(awk '{print $1}' /sys/block/nullb0/inflight)" != 0 ]; }
for how in signal order signal order; do
    within 15000 in_flight || fail "no check begins"
    pause $how 3.2
    sleep 2
done
sleep 6
never /dev/nullb0 down
is /dev/nullb0 up || fail "it is $(field /dev/nullb0 state)"
