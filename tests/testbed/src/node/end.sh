# Run on the machine when a node has ended, with the variables `cgroup`, `link` and `index` set before: waits until its last
# process no longer exists and removes what the kernel does not remove.
groups() { find /sys/fs/cgroup -mindepth 1 -maxdepth 2 -type d -name "$cgroup"; }
tries=0
while [ -n "$(groups)" ] && [ $tries -lt 100 ]; do
    [ $tries -eq 0 ] || sleep 0.1
    groups | while read -r group; do
        find "$group" -depth -type d -exec rmdir {} \; 2>/dev/null
    done
    tries=$((tries + 1))
done
# By index: the name may belong to another node by now.
if [ "$(cat "/sys/class/net/$link/ifindex" 2>/dev/null)" = "$index" ]; then
    ip link delete "$link" 2>/dev/null
fi
