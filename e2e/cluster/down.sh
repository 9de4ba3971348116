#!/usr/bin/env bash
# Takes a cluster away, whatever state it is in: processes, mounts, network, cgroups, files. Everything is killed,
# for nothing of it is kept, and so there is no order in which this could fail. What was built and downloaded stays.
set -uo pipefail
trap '' INT TERM   # a second Ctrl-C must not leave half of it
. "$(dirname "$0")/env.sh"
. "$HERE/network.sh"
[ -d "$RUN" ] || exit 0

remove_pods() {
  local process id pids tasks=$RUN/containerd/state/io.containerd.runtime.v2.task/k8s.io
  # The shims; each has containerd's address among its arguments. A process may be gone by the time it is read.
  for process in /proc/[0-9]*; do
    { tr '\0' ' ' < "$process/cmdline" | grep -qF -- "-address $CONTAINERD" && kill -KILL "${process#/proc/}"; } 2>/dev/null
  done
  for id in $(ls "$tasks" 2>/dev/null); do
    # The container. A killed process stays in its cgroup until it is reaped.
    for _ in $(seq 100); do
      pids=$(find /sys/fs/cgroup -path "*/$id/cgroup.procs" -exec cat {} + 2>/dev/null | sort -u)
      [ -n "$pids" ] || break
      kill -KILL $pids 2>/dev/null
      sleep 0.1
    done
    # What shims and plugins keep outside of our folder.
    rm -f "$(sed 's|^unix://||' "$tasks/$id/address" 2>/dev/null)" /var/lib/cni/results/*-"$id"-*
    rm -rf "/run/containerd/runc/k8s.io/$id"
  done
  # And the kubelet. Only empty cgroups can be removed.
  find /sys/fs/cgroup/kubepods /sys/fs/cgroup/*/kubepods -depth -type d -exec rmdir {} + 2>/dev/null
  find /var/log/containers -lname "$RUN/*" -delete 2>/dev/null
  rmdir /var/log/containers 2>/dev/null
  [ ! -e "$RUN/made-var-lib-kubelet" ] || rm -rf /var/lib/kubelet
}

unmount() { # volumes of pods, their namespaces, root file systems
  awk -v run="$RUN/" 'index($2, run) == 1 {print $2}' /proc/mounts | sort -r |
    while read -r mount; do umount "$mount" 2>/dev/null || umount -l "$mount"; done
}

kill_all kwok kubelet kube-proxy kube-scheduler kube-controller-manager kube-apiserver containerd etcd
if [ "$MODE" = node ]; then
  remove_pods
  unmount
  remove_network
fi
rm -rf "$RUN"
