#!/bin/sh
# boot.sh ROOT LAYER CGROUP [OPTION]...: boots ROOT with systemd-nspawn and these options of it;
# what is written goes into LAYER. To be run in a mount namespace of its own: no mount outlives it.
set -eu
root=$1 layer=$2 cgroup=$3
shift 3
mkdir -p "$layer/written" "$layer/work" "$layer/root"
mount -t overlay overlay "$layer/root" \
    -o "lowerdir=$root,upperdir=$layer/written,workdir=$layer/work"

# The box's systemd wants the unified hierarchy of control groups, whatever this machine's uses.
groups=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
if [ -z "$groups" ]; then
    groups=/sys/fs/cgroup/unified
    mkdir -p "$groups"
    mount -t cgroup2 none "$groups"
fi
mkdir -p "$groups/$cgroup"
echo $$ > "$groups/$cgroup/cgroup.procs"

SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 exec systemd-nspawn --quiet --directory="$layer/root" --boot \
    --register=no --keep-unit --resolv-conf=off --timezone=off --link-journal=no --console=pipe \
    --machine="$cgroup" "$@"
