#!/usr/bin/env bash
# Lets this machine reach the pods and Services of a kind cluster as nodes do, for the tests dial them. Docker on
# Linux only: elsewhere its bridge is inside a virtual machine.
#
#   kind-routes.sh CONTAINER   makes the route
#   kind-routes.sh             removes it
set -euo pipefail
as_root=
[ "$(id -u)" = 0 ] || as_root="sudo -n" # nobody could type a password
if [ $# = 0 ]; then
  $as_root ip route del 198.18.0.0/15 2>/dev/null || true
else
  address=$(docker inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "$1")
  $as_root ip route replace 198.18.0.0/15 via "$address"
fi
