# shellcheck shell=dash
# limit_s: 90
# Everybody's reads of a suspended map hang, so it is down until it is resumed. A map above it is,
# too.
scsi_disks
linear low /dev/sda
linear high /dev/mapper/low
daemon /dev/sda /dev/mapper/low /dev/mapper/high
all_up /dev/sda /dev/mapper/low /dev/mapper/high

dmsetup suspend low
suspended=$(now_ms)
comes_down "$suspended" 3500 /dev/mapper/low
comes_down "$suspended" 4500 /dev/mapper/high
livez_is /dev/mapper/low 503 || fail "/livez of a suspended map: $(livez /dev/mapper/low)"
livez_is /dev/sda 200 || fail "/livez of the disk below: $(livez /dev/sda)"

dmsetup resume low
resumed=$(now_ms)
within 10000 livez_is /dev/mapper/low 200 || fail "/livez of a resumed map: $(livez /dev/mapper/low)"
took=$(($(now_ms) - resumed))
echo "200 after $took ms"
[ "$took" -le 1500 ] || fail "/livez says 200 only $took ms after the map was resumed"
all_up /dev/mapper/low /dev/mapper/high
never /dev/sda down
