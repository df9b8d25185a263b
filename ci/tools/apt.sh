#!/bin/sh
# Installs the Debian packages that the local cluster and the images need, with `tests` also those of the tests; does
# nothing when all is there.
# What counts is the program, not the package: a machine may have containerd or runc from elsewhere, and keeps it.
set -eu
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
missing=""
need() { # PROGRAM PACKAGE
    command -v "$1" >/dev/null || missing="$missing $2"
}
need containerd containerd
need ctr containerd
need runc runc
need buildah buildah
need mmdebstrap mmdebstrap
need iptables iptables
need conntrack conntrack
need ip iproute2
need nsenter util-linux
need openssl openssl
need skopeo skopeo
need git git
if [ "${1:-}" = tests ]; then
    need busybox busybox-static
    need docker-registry docker-registry
    need gpg gnupg
    need promtool prometheus
    need prometheus prometheus
fi
[ -x /usr/lib/cni/ptp ] || [ -x /opt/cni/bin/ptp ] || missing="$missing containernetworking-plugins"
[ -e /etc/ssl/certs/ca-certificates.crt ] || missing="$missing ca-certificates"
python3 -c 'import ensurepip' 2>/dev/null || missing="$missing python3-venv"
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ]; then
    echo "not root, going on without the Debian packages:$missing" >&2
    exit 0
fi
echo "installing Debian packages:$missing" >&2
export DEBIAN_FRONTEND=noninteractive
# Packages start services of their own; the local cluster starts what it needs itself.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
apt-get update -q
# shellcheck disable=SC2086
apt-get install -q -y --no-install-recommends --no-remove $missing
for service in docker-registry prometheus; do # nor after a boot
    case $missing in *"$service"*) systemctl disable "$service" >/dev/null 2>&1 || true ;; esac
done
