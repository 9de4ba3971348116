#!/usr/bin/env bash
# Brings a Kubernetes up from programs in a folder. What runs already is left alone, so a second call heals.
#
#   DANMU_CLUSTER_MODE=node up.sh     etcd, API server, controller-manager, scheduler, containerd, kubelet,
#                                     kube-proxy, CoreDNS; loads the images (OCI tars) of $CACHE/images
#   DANMU_CLUSTER_MODE=fake up.sh N   the first four, and kwok, which plays the kubelets of N nodes; not as root
set -euo pipefail
. "$(dirname "$0")/env.sh"
. "$HERE/network.sh"

configure() { # FILE: prints it with our paths and addresses
  sed -e "s|@RUN@|$RUN|g; s|@NODE_IP@|$NODE_IP|g; s|@NODE_NAME@|$NODE_NAME|g; s|@BRIDGE@|$BRIDGE|g" \
    -e "s|@POD_CIDR@|$POD_CIDR|g; s|@ALL_CIDR@|$ALL_CIDR|g; s|@DNS_SERVICE_IP@|$DNS_SERVICE_IP|g" "$1"
}

start_etcd() {
  local client peer
  client=https://127.0.0.1:$(port 2379) peer=https://127.0.0.1:$(port 2380)
  # --unsafe-no-fsync: a test cluster may lose its data in a power cut.
  start etcd "$BIN/etcd" --name "$NODE_NAME" --data-dir "$RUN/etcd" --unsafe-no-fsync \
    --listen-client-urls "$client" --advertise-client-urls "$client" \
    --listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" --initial-cluster "$NODE_NAME=$peer" \
    --cert-file "$PKI/etcd.crt" --key-file "$PKI/etcd.key" --client-cert-auth --trusted-ca-file "$PKI/etcd-ca.crt" \
    --peer-cert-file "$PKI/etcd.crt" --peer-key-file "$PKI/etcd.key" \
    --peer-client-cert-auth --peer-trusted-ca-file "$PKI/etcd-ca.crt" \
    --listen-metrics-urls "http://127.0.0.1:$(port 2381)" --log-level warn
}

start_apiserver() {
  local address=(--advertise-address "$NODE_IP")
  # Nobody but this machine reaches it: no Endpoints for it.
  [ "$MODE" = node ] || address=(--external-hostname localhost --endpoint-reconciler-type none)
  start kube-apiserver "$BIN/kube-apiserver" --bind-address "$NODE_IP" --secure-port "$(port 6443)" "${address[@]}" \
    --etcd-servers "https://127.0.0.1:$(port 2379)" --etcd-cafile "$PKI/etcd-ca.crt" \
    --etcd-certfile "$PKI/etcd-client.crt" --etcd-keyfile "$PKI/etcd-client.key" \
    --client-ca-file "$PKI/ca.crt" --tls-cert-file "$PKI/apiserver.crt" --tls-private-key-file "$PKI/apiserver.key" \
    --service-account-issuer https://kubernetes.default.svc.cluster.local \
    --service-account-key-file "$PKI/sa.pub" --service-account-signing-key-file "$PKI/sa.key" \
    --kubelet-certificate-authority "$PKI/ca.crt" --kubelet-preferred-address-types InternalIP \
    --kubelet-client-certificate "$PKI/apiserver-kubelet-client.crt" \
    --kubelet-client-key "$PKI/apiserver-kubelet-client.key" \
    --requestheader-client-ca-file "$PKI/front-proxy-ca.crt" --requestheader-allowed-names front-proxy-client \
    --requestheader-username-headers X-Remote-User --requestheader-group-headers X-Remote-Group \
    --requestheader-extra-headers-prefix X-Remote-Extra- \
    --proxy-client-cert-file "$PKI/front-proxy-client.crt" --proxy-client-key-file "$PKI/front-proxy-client.key" \
    --authorization-mode Node,RBAC --enable-admission-plugins NodeRestriction \
    --service-cluster-ip-range "$SERVICE_CIDR" --profiling=false
}

start_controllers() {
  # --kube-api-qps: with the default, 20 a second, its start takes 5 s longer.
  start kube-controller-manager "$BIN/kube-controller-manager" --leader-elect=false \
    --bind-address 127.0.0.1 --secure-port "$(port 10257)" --kubeconfig "$PKI/controller-manager.kubeconfig" \
    --authentication-kubeconfig "$PKI/controller-manager.kubeconfig" \
    --authorization-kubeconfig "$PKI/controller-manager.kubeconfig" --use-service-account-credentials \
    --service-account-private-key-file "$PKI/sa.key" --root-ca-file "$PKI/ca.crt" \
    --cluster-signing-cert-file "$PKI/ca.crt" --cluster-signing-key-file "$PKI/ca.key" \
    --allocate-node-cidrs=false --cluster-cidr "$POD_CIDR" --profiling=false \
    --kube-api-qps 500 --kube-api-burst 1000
  start kube-scheduler "$BIN/kube-scheduler" --leader-elect=false \
    --bind-address 127.0.0.1 --secure-port "$(port 10259)" --kubeconfig "$PKI/scheduler.kubeconfig" \
    --authentication-kubeconfig "$PKI/scheduler.kubeconfig" \
    --authorization-kubeconfig "$PKI/scheduler.kubeconfig" --profiling=false
}

load_images() {
  local image stamp
  for image in "$CACHE"/images/*.tar; do
    stamp=$RUN/loaded/$(basename "$image")
    [ "$stamp" -nt "$image" ] && continue
    ctr -a "$CONTAINERD" -n k8s.io images import "$image" >/dev/null
    touch "$stamp"
  done
}

start_node() {
  wait_for 30 containerd ctr -a "$CONTAINERD" version
  load_images
  start kubelet "$BIN/kubelet" --config "$RUN/conf/kubelet.yaml" --kubeconfig "$PKI/kubelet.kubeconfig" \
    --root-dir "$RUN/kubelet" --hostname-override "$NODE_NAME" --node-ip "$NODE_IP"
  start kube-proxy "$BIN/kube-proxy" --config "$RUN/conf/kube-proxy.yaml"
  wait_for 60 "the node" kubectl get node "$NODE_NAME"
  kubectl wait --for=condition=Ready "node/$NODE_NAME" --timeout=90s >/dev/null
  wait_for 30 "the ServiceAccount default" kubectl get serviceaccount default
  configure "$HERE/manifests/coredns.yaml" | kubectl apply -f - >/dev/null
  kubectl -n kube-system rollout status deployment/coredns --timeout=90s >/dev/null
}

start_fake_nodes() { # N
  [ "$1" -gt 0 ] || return 0
  local number
  wait_for 60 "the ServiceAccount default" kubectl get serviceaccount default
  start kwok "$BIN/kwok" --kubeconfig "$KUBECONFIG" --config "$BIN/kwok-stages.yaml" --cidr "$POD_CIDR" \
    --manage-nodes-with-annotation-selector kwok.x-k8s.io/node=fake --node-lease-duration-seconds 40
  for number in $(seq "$1"); do
    cat <<YAML
---
apiVersion: v1
kind: Node
metadata:
  name: fake-$number
  annotations: {kwok.x-k8s.io/node: fake}
  labels: {kubernetes.io/hostname: fake-$number, kubernetes.io/os: linux}
YAML
  done | kubectl apply -f - >/dev/null
  kubectl wait --for=condition=Ready node --all --timeout=60s >/dev/null
}

mkdir -p "$RUN"/{pids,etcd,conf,loaded} "$LOGS"
. "$HERE/pki.sh"
if [ "$MODE" = node ]; then
  # The kubelet makes this one beside our folder.
  [ -e /var/lib/kubelet ] || touch "$RUN/made-var-lib-kubelet"
  mkdir -p "$RUN"/{containerd,cni/net.d,kubelet,pod-logs}
  for file in "$HERE"/conf/*; do configure "$file" > "$RUN/conf/$(basename "$file")"; done
  mv "$RUN/conf/cni.conflist" "$RUN/cni/net.d/danmu.conflist"
  # For the kubelet: pods must not inherit the machine's resolver.
  : > "$RUN/resolv.conf"
  # Before the API server, which listens on the bridge's address.
  make_network
  start containerd /usr/bin/containerd --config "$RUN/conf/containerd.toml"
fi
start_etcd
start_apiserver
wait_for 60 kube-apiserver kubectl get --raw /readyz
start_controllers
if [ "$MODE" = node ]; then start_node; else start_fake_nodes "${1:-0}"; fi
