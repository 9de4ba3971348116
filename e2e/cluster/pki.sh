# Sourced by up.sh: every key, certificate and kubeconfig of a cluster, made once.
# ECDSA, because RSA keys take seconds.

key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1.key" 2>/dev/null; }

authority() { # NAME
  key "$1"
  openssl req -x509 -new -key "$1.key" -subj "/CN=$1" -days 3650 -out "$1.crt" \
    -addext 'basicConstraints=critical,CA:TRUE' -addext 'keyUsage=critical,keyCertSign,cRLSign,digitalSignature'
}

certificate() { # AUTHORITY NAME SUBJECT USAGE [NAMES]
  key "$2"
  {
    echo 'basicConstraints=critical,CA:FALSE'
    echo 'keyUsage=critical,digitalSignature,keyEncipherment'
    echo "extendedKeyUsage=$4"
    [ -z "${5:-}" ] || echo "subjectAltName=$5"
  } > "$2.ext"
  openssl req -new -key "$2.key" -subj "$3" |
    openssl x509 -req -CA "$1.crt" -CAkey "$1.key" -set_serial "0x$(openssl rand -hex 16)" -days 3650 \
      -extfile "$2.ext" -out "$2.crt" 2>/dev/null
  rm "$2.ext"
}

kubeconfig() { # FILE CERTIFICATE
  cat > "$1" <<YAML
apiVersion: v1
kind: Config
clusters:
- name: danmu-e2e
  cluster: {server: "https://$NODE_IP:$(port 6443)", certificate-authority-data: $(base64 -w0 ca.crt)}
users:
- name: $2
  user: {client-certificate-data: $(base64 -w0 "$2.crt"), client-key-data: $(base64 -w0 "$2.key")}
contexts:
- name: danmu-e2e
  context: {cluster: danmu-e2e, user: $2}
current-context: danmu-e2e
YAML
  chmod 600 "$1"
}

make_pki() {
  mkdir -p -m 700 "$PKI"
  cd "$PKI"
  authority ca
  authority etcd-ca
  authority front-proxy-ca
  certificate etcd-ca etcd /CN=etcd serverAuth,clientAuth IP:127.0.0.1,DNS:localhost
  certificate etcd-ca etcd-client /CN=kube-apiserver clientAuth
  certificate ca apiserver /CN=kube-apiserver serverAuth \
    "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local,DNS:localhost,IP:127.0.0.1,IP:$NODE_IP,IP:$API_SERVICE_IP"
  certificate ca apiserver-kubelet-client /O=system:masters/CN=kube-apiserver-kubelet-client clientAuth
  certificate front-proxy-ca front-proxy-client /CN=front-proxy-client clientAuth
  certificate ca kubelet-server "/O=system:nodes/CN=system:node:$NODE_NAME" serverAuth "DNS:$NODE_NAME,IP:$NODE_IP"
  # RBAC and the Node authorizer know each component by its subject.
  certificate ca admin /O=system:masters/CN=admin clientAuth
  certificate ca controller-manager /CN=system:kube-controller-manager clientAuth
  certificate ca scheduler /CN=system:kube-scheduler clientAuth
  certificate ca kubelet "/O=system:nodes/CN=system:node:$NODE_NAME" clientAuth
  certificate ca kube-proxy /CN=system:kube-proxy clientAuth
  # Signs the tokens of ServiceAccounts.
  key sa
  openssl ec -in sa.key -pubout -out sa.pub 2>/dev/null
  local name
  for name in controller-manager scheduler kubelet kube-proxy; do kubeconfig "$name.kubeconfig" "$name"; done
  kubeconfig "$KUBECONFIG" admin
  cd "$HERE"
}

# The admin's kubeconfig is the last that is made.
[ -e "$KUBECONFIG" ] || make_pki
