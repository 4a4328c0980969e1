#!/bin/bash
# Jobs go on while nodes and the base are killed and cables are cut, at random moments; then every
# byte, attribute, receipt and event is checked, and no partial file may be left.
#
#   scripts/storm.sh [SECONDS [SEED]]        600 and 1 without
#
# Hosts are network namespaces on a switch: root is needed. What is done and checked is in
# benches/distribution/storm.rs.
#
#   DIST_NODES=8         nodes
#   DIST_MBIT=200        limit of each link
#   DIST_INSECURE=1      without TLS
#   DIST_FOLDER=/dev/shm where files are kept
set -euo pipefail
cd "$(dirname "$0")/.."

export DIST_SECONDS="${1:-600}" DIST_SEED="${2:-1}"
exec scripts/distribution.sh storm
