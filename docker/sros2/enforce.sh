#!/usr/bin/env bash
# Make a keystore from the policy, then show that only the safety node's enclave can write hw/command.
#
#   docker compose -f docker/compose.yaml run --rm robot docker/sros2/enforce.sh [KEYSTORE]
#
# Needs ROS 2 from apt (the PyPI wheels have no security plugins): ros2 security, openssl.
# Exit code 0: the safety enclave's message arrived, and the ones of planner and operator did not.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
keystore="${1:-$(mktemp -d)/keystore}"

ros2 security create_keystore "$keystore"
ros2 security generate_artifacts -k "$keystore" -p "$here/config/sros2/policy.xml"
openssl smime -sign -text -in "$here/config/sros2/governance.xml" -out "$keystore/enclaves/governance.p7s" \
    -signer "$keystore/public/permissions_ca.cert.pem" -inkey "$keystore/private/permissions_ca.key.pem"

export ROS_SECURITY_KEYSTORE="$keystore" ROS_SECURITY_ENABLE=true ROS_SECURITY_STRATEGY=Enforce
export ROS_DOMAIN_ID="${ROS_DOMAIN_ID:-42}" ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST

heard() { # heard ENCLAVE: 0 when a hw/command written in this enclave reaches the driver's enclave
    local out; out="$(mktemp)"
    timeout -s INT 12 ros2 topic echo --once hw/command sensor_msgs/msg/JointState \
        --ros-args --enclave /wm/driver >"$out" 2>&1 &
    local reader=$!
    timeout -s INT 8 ros2 topic pub --rate 10 hw/command sensor_msgs/msg/JointState '{name: [probe]}' \
        --ros-args --enclave "/wm/$1" >/dev/null 2>&1 || true
    wait "$reader" || true
    grep -q probe "$out"
}

heard safety || { echo "FAIL: the safety enclave cannot write hw/command" >&2; exit 1; }
for other in planner operator; do
    if heard "$other"; then echo "FAIL: the $other enclave wrote hw/command" >&2; exit 1; fi
done
echo "only the safety enclave writes hw/command; keystore: $keystore"
