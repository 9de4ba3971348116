#!/usr/bin/env bash
# Takes a cluster away, whatever state it is in: processes, mounts, network, cgroups, files. What was built and
# downloaded stays.
#
#   down.sh node|fake
set -uo pipefail
trap '' INT TERM   # a second Ctrl-C must not leave half of it
. "$(dirname "$0")/env.sh"
. "$HERE/network.sh"
[ -d "$RUN" ] || exit 0

# The pods are killed and not asked: nothing of them is kept. containerd must be gone by then, and without it
# there is no order in which this could fail.
remove_pods() {
  local pid id task=$RUN/containerd/state/io.containerd.runtime.v2.task/k8s.io
  # The shims; each has containerd's address among its arguments.
  for pid in /proc/[0-9]*; do
    if tr '\0' ' ' < "$pid/cmdline" 2>/dev/null | grep -qF -- "-address $CONTAINERD"; then kill -KILL "${pid#/proc/}"; fi
  done
  # The containers. A killed process stays in its cgroup until it is reaped.
  for _ in $(seq 50); do
    pids=$(cat $(find /sys/fs/cgroup -path '*/kubepods*' -name cgroup.procs 2>/dev/null) /dev/null)
    [ -n "$pids" ] || break
    kill -KILL $pids 2>/dev/null
    sleep 0.1
  done
  find /sys/fs/cgroup -depth -path '*/kubepods*' -type d -exec rmdir {} + 2>/dev/null
  # What shims and plugins keep outside of our folder.
  for id in $(ls "$task" 2>/dev/null); do
    rm -f "$(sed 's|^unix://||' "$task/$id/address" 2>/dev/null)" /var/lib/cni/results/*-"$id"-*
    rm -rf "/run/containerd/runc/k8s.io/$id"
  done
}

unmount() { # volumes of pods, their namespaces, root file systems
  awk -v run="$RUN/" 'index($2, run) == 1 {print $2}' /proc/mounts | sort -r |
    while read -r mount; do umount "$mount" 2>/dev/null || umount -l "$mount"; done
}

stop 10 kwok kubelet kube-proxy kube-scheduler kube-controller-manager
stop 10 kube-apiserver containerd
stop 10 etcd
if [ "$MODE" = node ]; then
  remove_pods
  unmount
  remove_network
fi
rm -rf "$RUN"
