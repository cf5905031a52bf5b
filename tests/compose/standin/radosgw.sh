#!/bin/bash
# Starts the smallest Ceph that serves S3, with its data on the volume /var/lib/radosgw.
# As tests/radosgw/conftest.py does in memory; the keys come from a file "ACCESS SECRET".
set -euo pipefail
folder=/var/lib/radosgw conf=/var/lib/radosgw/ceph.conf
read -r access secret </run/secrets/s3_user || [[ $secret ]]
mkdir -p "$folder"/{mon,osd,rgw} /tmp/run

# Ceph's first steps fail by chance: whoever asks a fresh monitor too early gets "wrong fsid".
again() { for _ in $(seq 60); do "$@" >/tmp/last 2>&1 && return; sleep 1; done; cat /tmp/last >&2; exit 1; }
kept() { while true; do "$@" || true; echo "$1 ended; started again" >&2; sleep 1; done; }

if [[ ! -e $conf ]]; then
    fsid=$(cat /proc/sys/kernel/random/uuid)
    cat >"$conf.new" <<END
[global]
fsid = $fsid
mon host = v1:127.0.0.1:6789
auth cluster required = none
auth service required = none
auth client required = none
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 2000
mon data avail crit = 0
run dir = /tmp/run
admin socket = /tmp/run/\$name.asok
log to stderr = true
log to file = false
public network = 127.0.0.0/8
[mon.a]
mon data = $folder/mon
mon addr = 127.0.0.1:6789
[osd]
osd objectstore = bluestore
bluestore block size = 8589934592
osd memory target = 1073741824
osd data = $folder/osd
[client.rgw.a]
rgw frontends = beast endpoint=0.0.0.0:7480
rgw data = $folder/rgw
END
    monmaptool --create --clobber --addv a "[v1:127.0.0.1:6789]" --fsid "$fsid" /tmp/monmap
    ceph-mon --mkfs -i a -c "$conf.new" --monmap /tmp/monmap --mon-data "$folder/mon"
    mv "$conf.new" "$conf"
fi
kept ceph-mon -i a -c "$conf" -f 2>&1 &
ceph=(ceph --connect-timeout 5 -c "$conf")
again "${ceph[@]}" quorum_status
if [[ ! -e $folder/osd/made ]]; then
    disk=$(cat /proc/sys/kernel/random/uuid)
    again "${ceph[@]}" osd new "$disk" 0
    again ceph-osd -i 0 -c "$conf" --mkfs --osd-uuid "$disk"
    touch "$folder/osd/made"
fi
kept ceph-osd -i 0 -c "$conf" -f 2>&1 &
again "${ceph[@]}" osd crush add osd.0 1 root=default host=local
kept radosgw -n client.rgw.a -c "$conf" -f 2>&1 &
again bash -c 'exec 3<>/dev/tcp/127.0.0.1/7480'
radosgw-admin -c "$conf" -n client.rgw.a user info --uid=stack >/dev/null 2>&1 ||
    again radosgw-admin -c "$conf" -n client.rgw.a user create --uid=stack --display-name=stack \
        --access-key="$access" --secret="$secret"
touch /tmp/ready
echo "radosgw is ready"
wait
