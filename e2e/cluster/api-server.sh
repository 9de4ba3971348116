#!/usr/bin/env bash
# For tests: kills the API server, and starts it again.
#
#   api-server.sh node|fake stop|start
set -euo pipefail
. "$(dirname "$0")/env.sh"
case ${2:-} in
  stop) stop 0 kube-apiserver ;;
  # up.sh starts whatever does not run, with the arguments it had.
  start) "$HERE/up.sh" "$MODE" 0 ;;
  *) die "usage: $0 node|fake stop|start" ;;
esac
