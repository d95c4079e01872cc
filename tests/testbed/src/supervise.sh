# Usage: sh -c THIS NAME SCRATCH CLEANUP PROGRAM [ARGUMENT...]
#
# Runs the program and ends it when standard input closes. The test holds the other end of that pipe, so the program ends
# with the test process, however that one ends. Before it closes the pipe in order, the test says "end"; without that word
# it no longer exists, and the directory SCRATCH, if one is named, is removed in its place.
# CLEANUP, if it is not empty, is run as shell commands when the program has ended, however it did; $1 is then the program's pid.
# Standard output tells the program's pid, in one line; standard error is the program's log.
scratch=$1
cleanup=$2
shift 2
exec 3<&0
"$@" </dev/null >&2 3<&- &
child=$!
echo "$child"
exec >&2
(
    read -r word <&3
    # From here on the watcher finishes, whatever the shell below wants of it.
    trap '' TERM
    kill -s KILL "$child"
    test "$word" = end
) &
watcher=$!
exec 3<&-
wait "$child"
code=$?
# At once, so that the pid which the watcher holds belongs to nobody else yet.
kill -s TERM "$watcher" 2>/dev/null
wait "$watcher"
watched=$?
if [ -n "$cleanup" ]; then
    sh -c "$cleanup" testbed-cleanup "$child"
fi
if [ $watched -eq 1 ] && [ -n "$scratch" ]; then
    rm -rf -- "$scratch"
fi
exit "$code"
