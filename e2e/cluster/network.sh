# Sourced by up.sh and down.sh: the node's network. Its bridge, and rules that let nothing in or out.

make_network() {
  # Part of some kernels, a module of others.
  [ -e /proc/sys/net/bridge ] || modprobe br_netfilter || die "the kernel module br_netfilter is missing"
  # What is changed here and by the kubelet; down.sh puts it back.
  [ -e "$RUN/sysctl.saved" ] ||
    sysctl net.ipv4.ip_forward net.bridge.bridge-nf-call-iptables vm.overcommit_memory kernel.panic kernel.panic_on_oops > "$RUN/sysctl.saved"
  ip link show "$BRIDGE" >/dev/null 2>&1 || ip link add "$BRIDGE" type bridge
  sysctl -qw net.ipv4.ip_forward=1                 # from pod to Service to pod
  sysctl -qw net.bridge.bridge-nf-call-iptables=1  # also on one bridge
  ip addr replace "$NODE_IP/16" dev "$BRIDGE"
  ip link set "$BRIDGE" up
  ip route replace unreachable "$ALL_CIDR"
  # A process of the machine that connects to a Service needs some route, before kube-proxy's rule (in nat's
  # OUTPUT) rewrites the address; else it is refused at once.
  ip route replace "$SERVICE_CIDR" dev "$BRIDGE" src "$NODE_IP"
  # The machine's other networks and the pods do not see each other; pods have no default route either.
  nft -f - <<NFT
table inet danmu-guard
delete table inet danmu-guard
table inet danmu-guard {
  chain forward { type filter hook forward priority -10; policy accept;
    iifname "$BRIDGE" oifname != "$BRIDGE" counter drop
    oifname "$BRIDGE" iifname != "$BRIDGE" counter drop
  }
  chain output { type filter hook output priority -10; policy accept;
    ip daddr $ALL_CIDR oifname != { "$BRIDGE", "lo" } counter drop
  }
}
NFT
}

# The veths of the pods go with their namespaces.
remove_network() {
  local table
  ip link del "$BRIDGE" 2>/dev/null
  ip route del unreachable "$ALL_CIDR" 2>/dev/null
  for table in "inet danmu-guard" "ip kube-proxy" "ip6 kube-proxy"; do nft delete table $table 2>/dev/null; done
  [ ! -e "$RUN/sysctl.saved" ] || sysctl -q -p "$RUN/sysctl.saved"
}
