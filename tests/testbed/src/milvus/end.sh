# Runs when a server has ended, however it did. $1 is its pid, $alias the name that it was given.
#
# Beside its store a server writes into two folders of the machine, of fixed names. They stay, for another server may be starting.
for dir in /run/milvus /tmp/milvus; do
    if [ -d "$dir" ]; then
        rm -f "$dir/server_id_$1" "$dir/standalone-$alias.pid"
        # One for all servers of 2.1, which hold a lock on it.
        if [ -e "$dir/embedded.pid" ]; then
            flock --nonblock "$dir/embedded.pid" rm -f "$dir/embedded.pid"
        fi
    fi
done
