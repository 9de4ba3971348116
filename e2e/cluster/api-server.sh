#!/usr/bin/env bash
# For tests: kills the API server, and starts it again. kind runs it as a static pod, whose manifest is moved away.
#
#   api-server.sh stop|start
set -euo pipefail
if [ "$DANMU_CLUSTER_MODE" = kind ]; then
  manifests=/etc/kubernetes/manifests name=kube-apiserver.yaml
  case ${1:-} in
    stop) docker exec "$DANMU_CLUSTER_NODE" sh -c "mv $manifests/$name /etc/kubernetes/ && pkill -KILL kube-apiserver" ;;
    start) docker exec "$DANMU_CLUSTER_NODE" mv "/etc/kubernetes/$name" "$manifests/" ;;
  esac
  exit
fi
. "$(dirname "$0")/env.sh"
case ${1:-} in
  stop) kill_all kube-apiserver ;;
  # up.sh starts what does not run, and leaves alone what does.
  start) "$HERE/up.sh" ;;
  *) die "usage: $0 stop|start" ;;
esac
