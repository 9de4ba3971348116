#!/usr/bin/env bash
# For tests: kill -9 of the first container of a pod, as the kernel would do it when memory runs out.
#
#   kill.sh NAMESPACE POD
set -euo pipefail
container=$("$DANMU_E2E_KUBECTL" -n "$1" get pod "$2" -o 'jsonpath={.status.containerStatuses[0].containerID}')
kill=(-n k8s.io tasks kill --signal SIGKILL "${container#containerd://}")
if [ "$DANMU_CLUSTER_MODE" = kind ]; then
  docker exec "$DANMU_CLUSTER_NODE" ctr "${kill[@]}"
else
  . "$(dirname "$0")/env.sh"
  ctr -a "$CONTAINERD" "${kill[@]}"
fi
