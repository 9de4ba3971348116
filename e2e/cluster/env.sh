# Sourced by the scripts here: where things are, and how programs are started and stopped.
#
# Two kinds of cluster, told by DANMU_CLUSTER_MODE; `cargo xtask e2e` sets it, and what stands with `:?` below:
#   node   everything, with one real node; one of them on a machine, as root
#   fake   a control plane on 127.0.0.1 whose nodes are kwok's; any number, each with a PORT_OFFSET of its own
MODE=${DANMU_CLUSTER_MODE:?}
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
CACHE=${DANMU_CLUSTER_DIR:?}
case $MODE in
  node) PORT_OFFSET=0 NODE_IP=198.18.0.1 ;;
  fake) PORT_OFFSET=${PORT_OFFSET:-100} NODE_IP=127.0.0.1 ;;
esac
RUN=$CACHE/$MODE-$PORT_OFFSET            # all that a cluster leaves on the disk; down.sh removes it
LOGS=$RUN/logs PKI=$RUN/pki
export KUBECONFIG=$RUN/kubeconfig KUBECACHEDIR=$RUN/kubectl-cache
BIN=${DANMU_CLUSTER_BIN:?}               # the programs that e2e/cluster/kubernetes makes

NODE_NAME=node1
# 198.18.0.0/15 is kept for benchmarks between hosts of one's own (RFC 2544): nobody can be there, so nothing
# that leaks can reach anyone.
ALL_CIDR=198.18.0.0/15
BRIDGE=danmu0
POD_CIDR=198.18.0.0/16                   # the node itself is its first address, on the bridge
SERVICE_CIDR=198.19.0.0/16
API_SERVICE_IP=198.19.0.1
DNS_SERVICE_IP=198.19.0.10
CONTAINERD=$RUN/containerd/containerd.sock

port() { echo $(($1 + PORT_OFFSET)); }
die() { echo "error: $*" >&2; exit 1; }
kubectl() { "$BIN/kubectl" "$@"; }

# start NAME COMMAND... : in a session of its own, so that no Ctrl-C reaches it. Nothing, if it runs already.
start() {
  local name=$1; shift
  running "$name" && return 0
  # The pid that is written is the command's own: setsid execs bash, and bash the command.
  setsid bash -c 'echo $$ > "$0"; exec "$@"' "$RUN/pids/$name.pid" "$@" >>"$LOGS/$name.log" 2>&1 </dev/null &
}

# A pid may have gone to another process since: ours has our folder in its arguments.
running() { [ -s "$RUN/pids/$1.pid" ] && grep -qsF "$RUN/" "/proc/$(cat "$RUN/pids/$1.pid")/cmdline"; }

# kill_all NAME... : at once; returns when they are gone.
kill_all() {
  local name
  for name in "$@"; do running "$name" && kill -KILL "$(cat "$RUN/pids/$name.pid")"; done
  for name in "$@"; do
    while running "$name"; do sleep 0.05; done
    rm -f "$RUN/pids/$name.pid"
  done
}

# wait_for SECONDS WHAT COMMAND...
wait_for() {
  local seconds=$1 what=$2 end; shift 2
  end=$((SECONDS + seconds))
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $end ] || die "$what: not there after $seconds s; logs are in $LOGS"
    sleep 0.2
  done
}
