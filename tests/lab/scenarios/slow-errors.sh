# shellcheck shell=dash
# limit_s: 120
# A device fails each request after 3.5 seconds, and all its tags are taken. Its counters move,
# since a failed request is completed, too; it must not come up by that.
nbd_disk
linear volume /dev/nbd0
daemon /dev/nbd0 /dev/mapper/volume
all_up /dev/nbd0 /dev/mapper/volume
lab-helper load read /dev/nbd0 8 4096 &
tell_nbd fail 3500
failing=$(now_ms)
lab-helper load read /dev/nbd0 200 4096 &
comes_down "$failing" 8000 /dev/nbd0
comes_down "$failing" 9000 /dev/mapper/volume
ups() { grep -c '"to":"up"' /run/events; }
before=$(ups)
sleep 20
[ "$(ups)" = "$before" ] || fail "a device that fails everything came up"
for path in /dev/nbd0 /dev/mapper/volume; do
    is $path down || fail "$path is $(field $path state)"
done
tell_nbd answer
all_up /dev/nbd0 /dev/mapper/volume
