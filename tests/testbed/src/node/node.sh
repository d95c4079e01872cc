# Usage: sh -c THIS NAME SCRATCH, as PID 1 of new mount, network, PID, UTS and IPC namespaces, file descriptor 9 being the
# network namespace of the machine.
#
# Starts the parts of a node and ends when one of them ends. Whatever runs, is mounted or is routed in here ends with this
# process; what it needs lies in SCRATCH, written before: node.env with the variables used below, certificates, configurations.
set -eu
scratch=$1
. "$scratch/node.env"
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
trap 'exit 1' TERM

# --- the machine's own things stay as they are -----------------------------------------------------------------------------
# Some paths cannot be configured (network namespaces, shims' sockets, CNI's results, links to logs), hence all is hidden, except
# where it would hide what is needed.
for dir in /run /var/lib /var/log; do
    case "$scratch/ $control/ $kubelet/ $etcd $router" in
    *"$dir/"*) ;;
    *) mount -n -t tmpfs tmpfs "$dir" ;;
    esac
done
# Volumes that the kubelet mounts must reach the containers, which containerd puts into their own namespaces.
mount -n --make-rshared /
# The kubelet sets these for the whole machine unless it reads the values that it wants.
mkdir "$scratch/sysctl"
while read -r key value; do
    if [ -e "/proc/sys/$key" ]; then
        file="$scratch/sysctl/$(echo "$key" | tr / .)"
        echo "$value" >"$file"
        mount -n --bind "$file" "/proc/sys/$key"
    fi
done <<SYSCTLS
vm/overcommit_memory 1
vm/panic_on_oom 0
kernel/panic 10
kernel/panic_on_oops 1
kernel/keys/root_maxkeys 1000000
kernel/keys/root_maxbytes 25000000
SYSCTLS
# One subtree for all control groups. This process and the parts are in it too, so that it can be removed when all have ended.
if [ -e /sys/fs/cgroup/cgroup.procs ]; then
    hierarchies=/sys/fs/cgroup
else
    hierarchies=$(find /sys/fs/cgroup -mindepth 2 -maxdepth 2 -name cgroup.procs -exec dirname {} \;)
fi
inside=
for dir in $hierarchies; do
    mkdir "$dir/$cgroup"
    case "$dir" in
    # Has no processes before CPUs and memory are given to it, which the kubelet does.
    */cpuset) ;;
    *) [ -n "$inside" ] || inside=$dir/$cgroup/parts ;;
    esac
done
mkdir "$inside"
echo 0 >"$inside/cgroup.procs"

# --- network: a cable to the machine, and nowhere else ---------------------------------------------------------------------
echo "$name" >/proc/sys/kernel/hostname
outside() { nsenter --net=/proc/self/fd/9 "$@"; }
outside ip link set "${link}p" netns $$
ip link set lo up
ip link set "${link}p" name up0
ip address add "$node_ip/30" dev up0
ip link set up0 up
outside ip address add "$host_ip/30" dev "$link"
outside ip link set "$link" up
outside ip route add "$network" via "$node_ip"
# The machine may forward: without this, what pods send would leave it.
ip route add unreachable default
exec 9<&-
echo 1 >/proc/sys/net/ipv4/ip_forward
# Else a pod that calls a Service on its own bridge gets its answers from the wrong address.
[ -e /proc/sys/net/bridge ] || modprobe br_netfilter
echo 1 >/proc/sys/net/bridge/bridge-nf-call-iptables

# --- the parts -------------------------------------------------------------------------------------------------------------
run() {
    part=$1
    shift
    {
        code=0
        "$@" >>"$scratch/$part.log" 2>&1 </dev/null || code=$?
        echo "$part ended with $code; the end of its log:"
        tail -n 15 "$scratch/$part.log"
        kill -s TERM 1
    } &
}
config() { echo "$scratch/$1.kubeconfig"; }

run containerd containerd --config "$scratch/containerd.toml"
run etcd "$etcd" --data-dir "$scratch/etcd" --unsafe-no-fsync \
    --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
    --listen-peer-urls http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380 \
    --initial-cluster default=http://127.0.0.1:2380
# Aggregator routing: webhooks named by Service are called at their pods' addresses, as the API server is not behind kube-proxy.
run kube-apiserver "$control/kube-apiserver" --etcd-servers=http://127.0.0.1:2379 \
    --bind-address="$node_ip" --advertise-address="$node_ip" --secure-port=6443 \
    --tls-cert-file="$scratch/server.crt" --tls-private-key-file="$scratch/server.key" --client-ca-file="$scratch/ca.crt" \
    --kubelet-client-certificate="$scratch/admin.crt" --kubelet-client-key="$scratch/admin.key" \
    --kubelet-certificate-authority="$scratch/ca.crt" --kubelet-preferred-address-types=InternalIP \
    --service-account-issuer=https://kubernetes.default.svc.cluster.local \
    --service-account-key-file="$scratch/service-account.pub" \
    --service-account-signing-key-file="$scratch/service-account.key" \
    --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --allow-privileged=true \
    --service-cluster-ip-range="$services" --enable-aggregator-routing=true --cert-dir="$scratch/cert-dir" --profiling=false
until "$kubectl" --kubeconfig "$(config admin)" get --raw /readyz >/dev/null 2>&1; do
    sleep 0.1
done
run kube-controller-manager "$control/kube-controller-manager" --kubeconfig="$(config kube-controller-manager)" \
    --service-account-private-key-file="$scratch/service-account.key" --root-ca-file="$scratch/ca.crt" \
    --use-service-account-credentials=true --leader-elect=false --secure-port=0 \
    --kube-api-qps=500 --kube-api-burst=1000 --flex-volume-plugin-dir="$scratch/volume-plugins" \
    --controllers='*,-node-ipam-controller,-node-route-controller,-service-lb-controller,-cloud-node-lifecycle-controller'
run kube-scheduler "$control/kube-scheduler" --kubeconfig="$(config kube-scheduler)" --leader-elect=false --secure-port=0
run kubelet "$kubelet/kubelet" --config="$scratch/kubelet.json" --kubeconfig="$(config kubelet)" --root-dir="$scratch/kubelet" \
    --cert-dir="$scratch/cert-dir" --hostname-override="$name" --node-ip="$node_ip"
run kube-proxy "$kubelet/kube-proxy" --config="$scratch/kube-proxy.json" --hostname-override="$name"
if [ -n "$router" ]; then
    run kube-router "$router" --kubeconfig="$(config admin)" --hostname-override="$name" --service-cluster-ip-range="$services"
fi
while :; do
    wait
done
