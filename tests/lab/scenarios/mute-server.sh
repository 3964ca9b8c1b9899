# shellcheck shell=dash
# limit_s: 120
# An NBD server reads no more requests while writers fill its socket, and the driver puts whoever
# submits to sleep. All other paths must go on being checked, and no one may be told an old state.
scsi_disks add_host=2 vpd_use_hostno=1
nbd_disk
daemon /dev/nbd0 /dev/sda /dev/sdb
all_up /dev/nbd0 /dev/sda /dev/sdb
tell_nbd mute
muted=$(now_ms)
lab-helper load write /dev/nbd0 200 131072 &
comes_down "$muted" 8000 /dev/nbd0
until_ms=$(($(now_ms) + 8000))
while [ "$(now_ms)" -lt "$until_ms" ]; do
    for path in /dev/sda /dev/sdb; do
        is $path up || fail "$path is $(field $path state)"
        age_ms=$(field $path verdict_age_ms)
        # An interval and a timeout; the rest is for a machine that is emulated.
        [ "$age_ms" -le 2500 ] || fail "$path was checked $age_ms ms ago"
    done
    is_healthy || fail "/healthz does not say 200"
done
is /dev/nbd0 down || fail "nbd0 is $(field /dev/nbd0 state)"
livez_is /dev/nbd0 503 || fail "/livez of nbd0: $(livez /dev/nbd0)"
never /dev/sda down
never /dev/sdb down

tell_nbd answer
all_up /dev/nbd0
