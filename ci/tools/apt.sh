#!/bin/sh
# Installs the Debian packages that the local cluster and the images need; does nothing when all are there.
set -eu
packages="containerd runc containernetworking-plugins buildah mmdebstrap iptables conntrack iproute2 util-linux openssl skopeo ca-certificates git"
missing=""
for package in $packages; do
    status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
echo "installing Debian packages:$missing" >&2
export DEBIAN_FRONTEND=noninteractive
# Packages start services of their own; the local cluster starts what it needs itself.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    trap 'rm -f "$policy"' EXIT
fi
apt-get update -q
# shellcheck disable=SC2086
apt-get install -q -y --no-install-recommends $missing
