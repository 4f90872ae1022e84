# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_synfin_global_optspecs
    string join \n v/verbose by= reason= state= n/numeric from= record= for= ring-size= max-connections= tracepoints-only btf= survey-always by-event p/pid= P/port= L/localport= D/remoteport= 4/ipv4 6/ipv6 local= remote= N/netns= c/cgroup= role= o/output= w/wide H/no-header h/help V/version
end

function __fish_synfin_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_synfin_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_synfin_using_subcommand
    set -l cmd (__fish_synfin_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c synfin -n "__fish_synfin_needs_command" -l by -d 'What makes a row, besides the role' -r -f -a "port\t'The service port'
remote\t'The service port, and the address that a client connects to'
owner\t'The process that connects or listens'
netns\t'The network namespace'"
complete -c synfin -n "__fish_synfin_needs_command" -l reason -d 'Only rows with connections that ended for these reasons (reset_by_peer,connect_timeout …)' -r
complete -c synfin -n "__fish_synfin_needs_command" -l state -d 'Only rows with connections in these states now (close-wait,time_wait …)' -r
complete -c synfin -n "__fish_synfin_needs_command" -l from -d 'Read this recording, a file or a directory, instead of watching this host' -r -F
complete -c synfin -n "__fish_synfin_needs_command" -l record -d 'Also write all that is seen to this file' -r -F
complete -c synfin -n "__fish_synfin_needs_command" -l for -d 'Stop after this time (10s, 5m …)' -r
complete -c synfin -n "__fish_synfin_needs_command" -l ring-size -d 'Size of the buffer between kernel and synfin: a power of two (16M …)' -r
complete -c synfin -n "__fish_synfin_needs_command" -l max-connections -d 'Most connections that are kept at a time; of more, the quietest are lost from sight' -r
complete -c synfin -n "__fish_synfin_needs_command" -l btf -d 'Take the kernel\'s type information from this copy of /sys/kernel/btf/vmlinux, where that is not shown' -r -F
complete -c synfin -n "__fish_synfin_needs_command" -s p -l pid -d 'Of these processes: they connect, or hold the listener' -r
complete -c synfin -n "__fish_synfin_needs_command" -s P -l port -d 'To these services: the listener\'s port of a server, the remote port of a client (443,8000-8099)' -r
complete -c synfin -n "__fish_synfin_needs_command" -s L -l localport -d 'With these ports on our side' -r
complete -c synfin -n "__fish_synfin_needs_command" -s D -l remoteport -d 'With these ports on the peer\'s side' -r
complete -c synfin -n "__fish_synfin_needs_command" -l local -d 'With our address in these networks (10.0.0.0/8)' -r
complete -c synfin -n "__fish_synfin_needs_command" -l remote -d 'With the peer\'s address in these networks' -r
complete -c synfin -n "__fish_synfin_needs_command" -s N -l netns -d 'In these network namespaces: a name (`ip netns`; `host` is the first process\'s) or an inode number' -r
complete -c synfin -n "__fish_synfin_needs_command" -s c -l cgroup -d 'Made in this cgroup (version 2) or in one below it: a path from the root, or in /sys/fs/cgroup' -r -F
complete -c synfin -n "__fish_synfin_needs_command" -l role -d 'On this side' -r -f -a "client\t''
server\t''"
complete -c synfin -n "__fish_synfin_needs_command" -s o -l output -d 'Form of the output' -r -f -a "table\t'Aligned columns, for the eyes'
json\t'One JSON object a line'
csv\t'Comma-separated values with a heading'"
complete -c synfin -n "__fish_synfin_needs_command" -s v -l verbose -d 'Say more: the verifier\'s whole log where it refuses, and with -vv what the kernel side logs'
complete -c synfin -n "__fish_synfin_needs_command" -s n -l numeric -d 'Do not tell ports by the names of their services'
complete -c synfin -n "__fish_synfin_needs_command" -l tracepoints-only -d 'Do not attach programs to the kernel\'s own functions (fentry), even where it allows them: see host.knowledge in docs/columns.md for what they show'
complete -c synfin -n "__fish_synfin_needs_command" -l survey-always -d 'Surveys follow each other without rest, whatever they cost: for tests of the survey'
complete -c synfin -n "__fish_synfin_needs_command" -l by-event -d 'The main hook is attached as on kernels that preempt programs on tracepoints (7.0 and later): for tests of that on others'
complete -c synfin -n "__fish_synfin_needs_command" -s 4 -l ipv4 -d 'IPv4 only, that of IPv6 sockets included'
complete -c synfin -n "__fish_synfin_needs_command" -s 6 -l ipv6 -d 'IPv6 only'
complete -c synfin -n "__fish_synfin_needs_command" -s w -l wide -d 'All columns'
complete -c synfin -n "__fish_synfin_needs_command" -s H -l no-header -d 'No heading and no footer'
complete -c synfin -n "__fish_synfin_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c synfin -n "__fish_synfin_needs_command" -s V -l version -d 'Print version'
complete -c synfin -n "__fish_synfin_needs_command" -f -a "top" -d 'A screen to watch connections on: per port, each connection, what is wrong (the default)'
complete -c synfin -n "__fish_synfin_needs_command" -f -a "report" -d 'Figures per port: once at the end, or every INTERVAL'
complete -c synfin -n "__fish_synfin_needs_command" -f -a "trace" -d 'A line for every state change of every connection'
complete -c synfin -n "__fish_synfin_needs_command" -f -a "connections" -d 'A line for every connection that ends'
complete -c synfin -n "__fish_synfin_needs_command" -f -a "record" -d 'Write all that is seen to a file, to be read with --from'
complete -c synfin -n "__fish_synfin_needs_command" -f -a "serve" -d 'Serve metrics for Prometheus and whoever understands its format'
complete -c synfin -n "__fish_synfin_needs_command" -f -a "anonymize" -d 'Make a recording that can be shared: without addresses and names, with the same figures'
complete -c synfin -n "__fish_synfin_needs_command" -f -a "doctor" -d 'Say what this host can and cannot do, and try it on connections of its own'
complete -c synfin -n "__fish_synfin_needs_command" -f -a "diagnose" -d 'Say what is wrong with the traffic, and what to do about it'
complete -c synfin -n "__fish_synfin_needs_command" -f -a "compare" -d 'What has changed from one recording or report to another'
complete -c synfin -n "__fish_synfin_needs_command" -f -a "explain" -d 'What a reason, a figure or a TCP state means'
complete -c synfin -n "__fish_synfin_needs_command" -f -a "completions" -d 'Completions of this command line for a shell'
complete -c synfin -n "__fish_synfin_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c synfin -n "__fish_synfin_using_subcommand top" -l by -d 'What makes a row, besides the role' -r -f -a "port\t'The service port'
remote\t'The service port, and the address that a client connects to'
owner\t'The process that connects or listens'
netns\t'The network namespace'"
complete -c synfin -n "__fish_synfin_using_subcommand top" -l reason -d 'Only rows with connections that ended for these reasons (reset_by_peer,connect_timeout …)' -r
complete -c synfin -n "__fish_synfin_using_subcommand top" -l state -d 'Only rows with connections in these states now (close-wait,time_wait …)' -r
complete -c synfin -n "__fish_synfin_using_subcommand top" -l from -d 'Read this recording, a file or a directory, instead of watching this host' -r -F
complete -c synfin -n "__fish_synfin_using_subcommand top" -l record -d 'Also write all that is seen to this file' -r -F
complete -c synfin -n "__fish_synfin_using_subcommand top" -l for -d 'Stop after this time (10s, 5m …)' -r
complete -c synfin -n "__fish_synfin_using_subcommand top" -l ring-size -d 'Size of the buffer between kernel and synfin: a power of two (16M …)' -r
complete -c synfin -n "__fish_synfin_using_subcommand top" -l max-connections -d 'Most connections that are kept at a time; of more, the quietest are lost from sight' -r
complete -c synfin -n "__fish_synfin_using_subcommand top" -l btf -d 'Take the kernel\'s type information from this copy of /sys/kernel/btf/vmlinux, where that is not shown' -r -F
complete -c synfin -n "__fish_synfin_using_subcommand top" -s p -l pid -d 'Of these processes: they connect, or hold the listener' -r
complete -c synfin -n "__fish_synfin_using_subcommand top" -s P -l port -d 'To these services: the listener\'s port of a server, the remote port of a client (443,8000-8099)' -r
complete -c synfin -n "__fish_synfin_using_subcommand top" -s L -l localport -d 'With these ports on our side' -r
complete -c synfin -n "__fish_synfin_using_subcommand top" -s D -l remoteport -d 'With these ports on the peer\'s side' -r
complete -c synfin -n "__fish_synfin_using_subcommand top" -l local -d 'With our address in these networks (10.0.0.0/8)' -r
complete -c synfin -n "__fish_synfin_using_subcommand top" -l remote -d 'With the peer\'s address in these networks' -r
complete -c synfin -n "__fish_synfin_using_subcommand top" -s N -l netns -d 'In these network namespaces: a name (`ip netns`; `host` is the first process\'s) or an inode number' -r
complete -c synfin -n "__fish_synfin_using_subcommand top" -s c -l cgroup -d 'Made in this cgroup (version 2) or in one below it: a path from the root, or in /sys/fs/cgroup' -r -F
complete -c synfin -n "__fish_synfin_using_subcommand top" -l role -d 'On this side' -r -f -a "client\t''
server\t''"
complete -c synfin -n "__fish_synfin_using_subcommand top" -s o -l output -d 'Form of the output' -r -f -a "table\t'Aligned columns, for the eyes'
json\t'One JSON object a line'
csv\t'Comma-separated values with a heading'"
complete -c synfin -n "__fish_synfin_using_subcommand top" -s n -l numeric -d 'Do not tell ports by the names of their services'
complete -c synfin -n "__fish_synfin_using_subcommand top" -l tracepoints-only -d 'Do not attach programs to the kernel\'s own functions (fentry), even where it allows them: see host.knowledge in docs/columns.md for what they show'
complete -c synfin -n "__fish_synfin_using_subcommand top" -l survey-always -d 'Surveys follow each other without rest, whatever they cost: for tests of the survey'
complete -c synfin -n "__fish_synfin_using_subcommand top" -l by-event -d 'The main hook is attached as on kernels that preempt programs on tracepoints (7.0 and later): for tests of that on others'
complete -c synfin -n "__fish_synfin_using_subcommand top" -s 4 -l ipv4 -d 'IPv4 only, that of IPv6 sockets included'
complete -c synfin -n "__fish_synfin_using_subcommand top" -s 6 -l ipv6 -d 'IPv6 only'
complete -c synfin -n "__fish_synfin_using_subcommand top" -s w -l wide -d 'All columns'
complete -c synfin -n "__fish_synfin_using_subcommand top" -s H -l no-header -d 'No heading and no footer'
complete -c synfin -n "__fish_synfin_using_subcommand top" -s v -l verbose -d 'Say more: the verifier\'s whole log where it refuses, and with -vv what the kernel side logs'
complete -c synfin -n "__fish_synfin_using_subcommand top" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c synfin -n "__fish_synfin_using_subcommand report" -l fail-on -d 'Exit with 1 if a figure is so in any report: abnormal>0, client.failures.connect_timeout>=1, server:8080.handshake.clean.p99_us>50000; may be given several times' -r
complete -c synfin -n "__fish_synfin_using_subcommand report" -l by -d 'What makes a row, besides the role' -r -f -a "port\t'The service port'
remote\t'The service port, and the address that a client connects to'
owner\t'The process that connects or listens'
netns\t'The network namespace'"
complete -c synfin -n "__fish_synfin_using_subcommand report" -l reason -d 'Only rows with connections that ended for these reasons (reset_by_peer,connect_timeout …)' -r
complete -c synfin -n "__fish_synfin_using_subcommand report" -l state -d 'Only rows with connections in these states now (close-wait,time_wait …)' -r
complete -c synfin -n "__fish_synfin_using_subcommand report" -l from -d 'Read this recording, a file or a directory, instead of watching this host' -r -F
complete -c synfin -n "__fish_synfin_using_subcommand report" -l record -d 'Also write all that is seen to this file' -r -F
complete -c synfin -n "__fish_synfin_using_subcommand report" -l for -d 'Stop after this time (10s, 5m …)' -r
complete -c synfin -n "__fish_synfin_using_subcommand report" -l ring-size -d 'Size of the buffer between kernel and synfin: a power of two (16M …)' -r
complete -c synfin -n "__fish_synfin_using_subcommand report" -l max-connections -d 'Most connections that are kept at a time; of more, the quietest are lost from sight' -r
complete -c synfin -n "__fish_synfin_using_subcommand report" -l btf -d 'Take the kernel\'s type information from this copy of /sys/kernel/btf/vmlinux, where that is not shown' -r -F
complete -c synfin -n "__fish_synfin_using_subcommand report" -s p -l pid -d 'Of these processes: they connect, or hold the listener' -r
complete -c synfin -n "__fish_synfin_using_subcommand report" -s P -l port -d 'To these services: the listener\'s port of a server, the remote port of a client (443,8000-8099)' -r
complete -c synfin -n "__fish_synfin_using_subcommand report" -s L -l localport -d 'With these ports on our side' -r
complete -c synfin -n "__fish_synfin_using_subcommand report" -s D -l remoteport -d 'With these ports on the peer\'s side' -r
complete -c synfin -n "__fish_synfin_using_subcommand report" -l local -d 'With our address in these networks (10.0.0.0/8)' -r
complete -c synfin -n "__fish_synfin_using_subcommand report" -l remote -d 'With the peer\'s address in these networks' -r
complete -c synfin -n "__fish_synfin_using_subcommand report" -s N -l netns -d 'In these network namespaces: a name (`ip netns`; `host` is the first process\'s) or an inode number' -r
complete -c synfin -n "__fish_synfin_using_subcommand report" -s c -l cgroup -d 'Made in this cgroup (version 2) or in one below it: a path from the root, or in /sys/fs/cgroup' -r -F
complete -c synfin -n "__fish_synfin_using_subcommand report" -l role -d 'On this side' -r -f -a "client\t''
server\t''"
complete -c synfin -n "__fish_synfin_using_subcommand report" -s o -l output -d 'Form of the output' -r -f -a "table\t'Aligned columns, for the eyes'
json\t'One JSON object a line'
csv\t'Comma-separated values with a heading'"
complete -c synfin -n "__fish_synfin_using_subcommand report" -l once -d 'Look at all sockets once, and report what is so now'
complete -c synfin -n "__fish_synfin_using_subcommand report" -l tracepoints-only -d 'Do not attach programs to the kernel\'s own functions (fentry), even where it allows them: see host.knowledge in docs/columns.md for what they show'
complete -c synfin -n "__fish_synfin_using_subcommand report" -l survey-always -d 'Surveys follow each other without rest, whatever they cost: for tests of the survey'
complete -c synfin -n "__fish_synfin_using_subcommand report" -l by-event -d 'The main hook is attached as on kernels that preempt programs on tracepoints (7.0 and later): for tests of that on others'
complete -c synfin -n "__fish_synfin_using_subcommand report" -s 4 -l ipv4 -d 'IPv4 only, that of IPv6 sockets included'
complete -c synfin -n "__fish_synfin_using_subcommand report" -s 6 -l ipv6 -d 'IPv6 only'
complete -c synfin -n "__fish_synfin_using_subcommand report" -s w -l wide -d 'All columns'
complete -c synfin -n "__fish_synfin_using_subcommand report" -s H -l no-header -d 'No heading and no footer'
complete -c synfin -n "__fish_synfin_using_subcommand report" -s v -l verbose -d 'Say more: the verifier\'s whole log where it refuses, and with -vv what the kernel side logs'
complete -c synfin -n "__fish_synfin_using_subcommand report" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c synfin -n "__fish_synfin_using_subcommand trace" -l state -d 'Only changes from or to these states (established,fin-wait-1,CLOSE_WAIT …)' -r
complete -c synfin -n "__fish_synfin_using_subcommand trace" -l from -d 'Read this recording, a file or a directory, instead of watching this host' -r -F
complete -c synfin -n "__fish_synfin_using_subcommand trace" -l record -d 'Also write all that is seen to this file' -r -F
complete -c synfin -n "__fish_synfin_using_subcommand trace" -l for -d 'Stop after this time (10s, 5m …)' -r
complete -c synfin -n "__fish_synfin_using_subcommand trace" -l ring-size -d 'Size of the buffer between kernel and synfin: a power of two (16M …)' -r
complete -c synfin -n "__fish_synfin_using_subcommand trace" -l max-connections -d 'Most connections that are kept at a time; of more, the quietest are lost from sight' -r
complete -c synfin -n "__fish_synfin_using_subcommand trace" -l btf -d 'Take the kernel\'s type information from this copy of /sys/kernel/btf/vmlinux, where that is not shown' -r -F
complete -c synfin -n "__fish_synfin_using_subcommand trace" -s p -l pid -d 'Of these processes: they connect, or hold the listener' -r
complete -c synfin -n "__fish_synfin_using_subcommand trace" -s P -l port -d 'To these services: the listener\'s port of a server, the remote port of a client (443,8000-8099)' -r
complete -c synfin -n "__fish_synfin_using_subcommand trace" -s L -l localport -d 'With these ports on our side' -r
complete -c synfin -n "__fish_synfin_using_subcommand trace" -s D -l remoteport -d 'With these ports on the peer\'s side' -r
complete -c synfin -n "__fish_synfin_using_subcommand trace" -l local -d 'With our address in these networks (10.0.0.0/8)' -r
complete -c synfin -n "__fish_synfin_using_subcommand trace" -l remote -d 'With the peer\'s address in these networks' -r
complete -c synfin -n "__fish_synfin_using_subcommand trace" -s N -l netns -d 'In these network namespaces: a name (`ip netns`; `host` is the first process\'s) or an inode number' -r
complete -c synfin -n "__fish_synfin_using_subcommand trace" -s c -l cgroup -d 'Made in this cgroup (version 2) or in one below it: a path from the root, or in /sys/fs/cgroup' -r -F
complete -c synfin -n "__fish_synfin_using_subcommand trace" -l role -d 'On this side' -r -f -a "client\t''
server\t''"
complete -c synfin -n "__fish_synfin_using_subcommand trace" -s o -l output -d 'Form of the output' -r -f -a "table\t'Aligned columns, for the eyes'
json\t'One JSON object a line'
csv\t'Comma-separated values with a heading'"
complete -c synfin -n "__fish_synfin_using_subcommand trace" -l tracepoints-only -d 'Do not attach programs to the kernel\'s own functions (fentry), even where it allows them: see host.knowledge in docs/columns.md for what they show'
complete -c synfin -n "__fish_synfin_using_subcommand trace" -l survey-always -d 'Surveys follow each other without rest, whatever they cost: for tests of the survey'
complete -c synfin -n "__fish_synfin_using_subcommand trace" -l by-event -d 'The main hook is attached as on kernels that preempt programs on tracepoints (7.0 and later): for tests of that on others'
complete -c synfin -n "__fish_synfin_using_subcommand trace" -s 4 -l ipv4 -d 'IPv4 only, that of IPv6 sockets included'
complete -c synfin -n "__fish_synfin_using_subcommand trace" -s 6 -l ipv6 -d 'IPv6 only'
complete -c synfin -n "__fish_synfin_using_subcommand trace" -s w -l wide -d 'All columns'
complete -c synfin -n "__fish_synfin_using_subcommand trace" -s H -l no-header -d 'No heading and no footer'
complete -c synfin -n "__fish_synfin_using_subcommand trace" -s v -l verbose -d 'Say more: the verifier\'s whole log where it refuses, and with -vv what the kernel side logs'
complete -c synfin -n "__fish_synfin_using_subcommand trace" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c synfin -n "__fish_synfin_using_subcommand connections" -l slow -d 'Instead, print handshakes that took at least this long (100ms …), as they get through' -r
complete -c synfin -n "__fish_synfin_using_subcommand connections" -l reason -d 'Only those that ended for these reasons (reset_by_peer,connect_timeout …)' -r
complete -c synfin -n "__fish_synfin_using_subcommand connections" -l state -d 'Only those in these states; with --open' -r
complete -c synfin -n "__fish_synfin_using_subcommand connections" -l min-age -d 'Only those that have lived at least this long (10s …)' -r
complete -c synfin -n "__fish_synfin_using_subcommand connections" -l from -d 'Read this recording, a file or a directory, instead of watching this host' -r -F
complete -c synfin -n "__fish_synfin_using_subcommand connections" -l record -d 'Also write all that is seen to this file' -r -F
complete -c synfin -n "__fish_synfin_using_subcommand connections" -l for -d 'Stop after this time (10s, 5m …)' -r
complete -c synfin -n "__fish_synfin_using_subcommand connections" -l ring-size -d 'Size of the buffer between kernel and synfin: a power of two (16M …)' -r
complete -c synfin -n "__fish_synfin_using_subcommand connections" -l max-connections -d 'Most connections that are kept at a time; of more, the quietest are lost from sight' -r
complete -c synfin -n "__fish_synfin_using_subcommand connections" -l btf -d 'Take the kernel\'s type information from this copy of /sys/kernel/btf/vmlinux, where that is not shown' -r -F
complete -c synfin -n "__fish_synfin_using_subcommand connections" -s p -l pid -d 'Of these processes: they connect, or hold the listener' -r
complete -c synfin -n "__fish_synfin_using_subcommand connections" -s P -l port -d 'To these services: the listener\'s port of a server, the remote port of a client (443,8000-8099)' -r
complete -c synfin -n "__fish_synfin_using_subcommand connections" -s L -l localport -d 'With these ports on our side' -r
complete -c synfin -n "__fish_synfin_using_subcommand connections" -s D -l remoteport -d 'With these ports on the peer\'s side' -r
complete -c synfin -n "__fish_synfin_using_subcommand connections" -l local -d 'With our address in these networks (10.0.0.0/8)' -r
complete -c synfin -n "__fish_synfin_using_subcommand connections" -l remote -d 'With the peer\'s address in these networks' -r
complete -c synfin -n "__fish_synfin_using_subcommand connections" -s N -l netns -d 'In these network namespaces: a name (`ip netns`; `host` is the first process\'s) or an inode number' -r
complete -c synfin -n "__fish_synfin_using_subcommand connections" -s c -l cgroup -d 'Made in this cgroup (version 2) or in one below it: a path from the root, or in /sys/fs/cgroup' -r -F
complete -c synfin -n "__fish_synfin_using_subcommand connections" -l role -d 'On this side' -r -f -a "client\t''
server\t''"
complete -c synfin -n "__fish_synfin_using_subcommand connections" -s o -l output -d 'Form of the output' -r -f -a "table\t'Aligned columns, for the eyes'
json\t'One JSON object a line'
csv\t'Comma-separated values with a heading'"
complete -c synfin -n "__fish_synfin_using_subcommand connections" -l open -d 'List the living connections instead: now, or at the end of a recording'
complete -c synfin -n "__fish_synfin_using_subcommand connections" -l tracepoints-only -d 'Do not attach programs to the kernel\'s own functions (fentry), even where it allows them: see host.knowledge in docs/columns.md for what they show'
complete -c synfin -n "__fish_synfin_using_subcommand connections" -l survey-always -d 'Surveys follow each other without rest, whatever they cost: for tests of the survey'
complete -c synfin -n "__fish_synfin_using_subcommand connections" -l by-event -d 'The main hook is attached as on kernels that preempt programs on tracepoints (7.0 and later): for tests of that on others'
complete -c synfin -n "__fish_synfin_using_subcommand connections" -s 4 -l ipv4 -d 'IPv4 only, that of IPv6 sockets included'
complete -c synfin -n "__fish_synfin_using_subcommand connections" -s 6 -l ipv6 -d 'IPv6 only'
complete -c synfin -n "__fish_synfin_using_subcommand connections" -s w -l wide -d 'All columns'
complete -c synfin -n "__fish_synfin_using_subcommand connections" -s H -l no-header -d 'No heading and no footer'
complete -c synfin -n "__fish_synfin_using_subcommand connections" -s v -l verbose -d 'Say more: the verifier\'s whole log where it refuses, and with -vv what the kernel side logs'
complete -c synfin -n "__fish_synfin_using_subcommand connections" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c synfin -n "__fish_synfin_using_subcommand record" -l key-file -d 'Take the key from this file, any secret of at least 16 bytes, so that recordings match each other; without it, it is random and forgotten' -r -F
complete -c synfin -n "__fish_synfin_using_subcommand record" -l keep -d 'Record without end to files in a directory, and delete what is older than this (1h …)' -r
complete -c synfin -n "__fish_synfin_using_subcommand record" -l max-size -d 'The same, and delete the oldest file when all have more bytes than this (1G …)' -r
complete -c synfin -n "__fish_synfin_using_subcommand record" -l for -d 'Stop after this time (10s, 5m …)' -r
complete -c synfin -n "__fish_synfin_using_subcommand record" -l ring-size -d 'Size of the buffer between kernel and synfin: a power of two (16M …)' -r
complete -c synfin -n "__fish_synfin_using_subcommand record" -l max-connections -d 'Most connections that are kept at a time; of more, the quietest are lost from sight' -r
complete -c synfin -n "__fish_synfin_using_subcommand record" -l btf -d 'Take the kernel\'s type information from this copy of /sys/kernel/btf/vmlinux, where that is not shown' -r -F
complete -c synfin -n "__fish_synfin_using_subcommand record" -s p -l pid -d 'Of these processes: they connect, or hold the listener' -r
complete -c synfin -n "__fish_synfin_using_subcommand record" -s P -l port -d 'To these services: the listener\'s port of a server, the remote port of a client (443,8000-8099)' -r
complete -c synfin -n "__fish_synfin_using_subcommand record" -s L -l localport -d 'With these ports on our side' -r
complete -c synfin -n "__fish_synfin_using_subcommand record" -s D -l remoteport -d 'With these ports on the peer\'s side' -r
complete -c synfin -n "__fish_synfin_using_subcommand record" -l local -d 'With our address in these networks (10.0.0.0/8)' -r
complete -c synfin -n "__fish_synfin_using_subcommand record" -l remote -d 'With the peer\'s address in these networks' -r
complete -c synfin -n "__fish_synfin_using_subcommand record" -s N -l netns -d 'In these network namespaces: a name (`ip netns`; `host` is the first process\'s) or an inode number' -r
complete -c synfin -n "__fish_synfin_using_subcommand record" -s c -l cgroup -d 'Made in this cgroup (version 2) or in one below it: a path from the root, or in /sys/fs/cgroup' -r -F
complete -c synfin -n "__fish_synfin_using_subcommand record" -l role -d 'On this side' -r -f -a "client\t''
server\t''"
complete -c synfin -n "__fish_synfin_using_subcommand record" -l anonymize -d 'Write no addresses and names, but what stands for them: see `synfin anonymize`'
complete -c synfin -n "__fish_synfin_using_subcommand record" -l tracepoints-only -d 'Do not attach programs to the kernel\'s own functions (fentry), even where it allows them: see host.knowledge in docs/columns.md for what they show'
complete -c synfin -n "__fish_synfin_using_subcommand record" -l survey-always -d 'Surveys follow each other without rest, whatever they cost: for tests of the survey'
complete -c synfin -n "__fish_synfin_using_subcommand record" -l by-event -d 'The main hook is attached as on kernels that preempt programs on tracepoints (7.0 and later): for tests of that on others'
complete -c synfin -n "__fish_synfin_using_subcommand record" -s 4 -l ipv4 -d 'IPv4 only, that of IPv6 sockets included'
complete -c synfin -n "__fish_synfin_using_subcommand record" -s 6 -l ipv6 -d 'IPv6 only'
complete -c synfin -n "__fish_synfin_using_subcommand record" -s v -l verbose -d 'Say more: the verifier\'s whole log where it refuses, and with -vv what the kernel side logs'
complete -c synfin -n "__fish_synfin_using_subcommand record" -s h -l help -d 'Print help'
complete -c synfin -n "__fish_synfin_using_subcommand serve" -l listen -d 'Where to listen; nobody else can reach 127.0.0.1' -r
complete -c synfin -n "__fish_synfin_using_subcommand serve" -l max-series -d 'Most series; ports that find no room are put together as port="other"' -r
complete -c synfin -n "__fish_synfin_using_subcommand serve" -l otlp -d 'Also push them by OTLP to this OpenTelemetry collector (http://127.0.0.1:4318), with the headers and attributes that OTEL_EXPORTER_OTLP_HEADERS and OTEL_RESOURCE_ATTRIBUTES name' -r
complete -c synfin -n "__fish_synfin_using_subcommand serve" -l otlp-interval -d 'How often they are pushed' -r
complete -c synfin -n "__fish_synfin_using_subcommand serve" -l for -d 'Stop after this time (10s, 5m …)' -r
complete -c synfin -n "__fish_synfin_using_subcommand serve" -l ring-size -d 'Size of the buffer between kernel and synfin: a power of two (16M …)' -r
complete -c synfin -n "__fish_synfin_using_subcommand serve" -l max-connections -d 'Most connections that are kept at a time; of more, the quietest are lost from sight' -r
complete -c synfin -n "__fish_synfin_using_subcommand serve" -l btf -d 'Take the kernel\'s type information from this copy of /sys/kernel/btf/vmlinux, where that is not shown' -r -F
complete -c synfin -n "__fish_synfin_using_subcommand serve" -s p -l pid -d 'Of these processes: they connect, or hold the listener' -r
complete -c synfin -n "__fish_synfin_using_subcommand serve" -s P -l port -d 'To these services: the listener\'s port of a server, the remote port of a client (443,8000-8099)' -r
complete -c synfin -n "__fish_synfin_using_subcommand serve" -s L -l localport -d 'With these ports on our side' -r
complete -c synfin -n "__fish_synfin_using_subcommand serve" -s D -l remoteport -d 'With these ports on the peer\'s side' -r
complete -c synfin -n "__fish_synfin_using_subcommand serve" -l local -d 'With our address in these networks (10.0.0.0/8)' -r
complete -c synfin -n "__fish_synfin_using_subcommand serve" -l remote -d 'With the peer\'s address in these networks' -r
complete -c synfin -n "__fish_synfin_using_subcommand serve" -s N -l netns -d 'In these network namespaces: a name (`ip netns`; `host` is the first process\'s) or an inode number' -r
complete -c synfin -n "__fish_synfin_using_subcommand serve" -s c -l cgroup -d 'Made in this cgroup (version 2) or in one below it: a path from the root, or in /sys/fs/cgroup' -r -F
complete -c synfin -n "__fish_synfin_using_subcommand serve" -l role -d 'On this side' -r -f -a "client\t''
server\t''"
complete -c synfin -n "__fish_synfin_using_subcommand serve" -l tracepoints-only -d 'Do not attach programs to the kernel\'s own functions (fentry), even where it allows them: see host.knowledge in docs/columns.md for what they show'
complete -c synfin -n "__fish_synfin_using_subcommand serve" -l survey-always -d 'Surveys follow each other without rest, whatever they cost: for tests of the survey'
complete -c synfin -n "__fish_synfin_using_subcommand serve" -l by-event -d 'The main hook is attached as on kernels that preempt programs on tracepoints (7.0 and later): for tests of that on others'
complete -c synfin -n "__fish_synfin_using_subcommand serve" -s 4 -l ipv4 -d 'IPv4 only, that of IPv6 sockets included'
complete -c synfin -n "__fish_synfin_using_subcommand serve" -s 6 -l ipv6 -d 'IPv6 only'
complete -c synfin -n "__fish_synfin_using_subcommand serve" -s v -l verbose -d 'Say more: the verifier\'s whole log where it refuses, and with -vv what the kernel side logs'
complete -c synfin -n "__fish_synfin_using_subcommand serve" -s h -l help -d 'Print help'
complete -c synfin -n "__fish_synfin_using_subcommand anonymize" -l key-file -d 'Take the key from this file, any secret of at least 16 bytes, so that recordings match each other; without it, it is random and forgotten' -r -F
complete -c synfin -n "__fish_synfin_using_subcommand anonymize" -s v -l verbose -d 'Say more: the verifier\'s whole log where it refuses, and with -vv what the kernel side logs'
complete -c synfin -n "__fish_synfin_using_subcommand anonymize" -s h -l help -d 'Print help'
complete -c synfin -n "__fish_synfin_using_subcommand doctor" -l for -d 'Watch this host for so long, to tell the ring buffer\'s size' -r
complete -c synfin -n "__fish_synfin_using_subcommand doctor" -l btf -d 'Take the kernel\'s type information from this copy of /sys/kernel/btf/vmlinux, where that is not shown' -r -F
complete -c synfin -n "__fish_synfin_using_subcommand doctor" -s o -l output -d 'Form of the output' -r -f -a "table\t'A line for every check'
json\t'One JSON object'"
complete -c synfin -n "__fish_synfin_using_subcommand doctor" -s v -l verbose -d 'Say more: the verifier\'s whole log where it refuses, and with -vv what the kernel side logs'
complete -c synfin -n "__fish_synfin_using_subcommand doctor" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c synfin -n "__fish_synfin_using_subcommand diagnose" -l from -d 'Read this recording, a file or a directory, instead of watching this host' -r -F
complete -c synfin -n "__fish_synfin_using_subcommand diagnose" -l record -d 'Also write all that is seen to this file' -r -F
complete -c synfin -n "__fish_synfin_using_subcommand diagnose" -l for -d 'Stop after this time (10s, 5m …)' -r
complete -c synfin -n "__fish_synfin_using_subcommand diagnose" -l ring-size -d 'Size of the buffer between kernel and synfin: a power of two (16M …)' -r
complete -c synfin -n "__fish_synfin_using_subcommand diagnose" -l max-connections -d 'Most connections that are kept at a time; of more, the quietest are lost from sight' -r
complete -c synfin -n "__fish_synfin_using_subcommand diagnose" -l btf -d 'Take the kernel\'s type information from this copy of /sys/kernel/btf/vmlinux, where that is not shown' -r -F
complete -c synfin -n "__fish_synfin_using_subcommand diagnose" -s p -l pid -d 'Of these processes: they connect, or hold the listener' -r
complete -c synfin -n "__fish_synfin_using_subcommand diagnose" -s P -l port -d 'To these services: the listener\'s port of a server, the remote port of a client (443,8000-8099)' -r
complete -c synfin -n "__fish_synfin_using_subcommand diagnose" -s L -l localport -d 'With these ports on our side' -r
complete -c synfin -n "__fish_synfin_using_subcommand diagnose" -s D -l remoteport -d 'With these ports on the peer\'s side' -r
complete -c synfin -n "__fish_synfin_using_subcommand diagnose" -l local -d 'With our address in these networks (10.0.0.0/8)' -r
complete -c synfin -n "__fish_synfin_using_subcommand diagnose" -l remote -d 'With the peer\'s address in these networks' -r
complete -c synfin -n "__fish_synfin_using_subcommand diagnose" -s N -l netns -d 'In these network namespaces: a name (`ip netns`; `host` is the first process\'s) or an inode number' -r
complete -c synfin -n "__fish_synfin_using_subcommand diagnose" -s c -l cgroup -d 'Made in this cgroup (version 2) or in one below it: a path from the root, or in /sys/fs/cgroup' -r -F
complete -c synfin -n "__fish_synfin_using_subcommand diagnose" -l role -d 'On this side' -r -f -a "client\t''
server\t''"
complete -c synfin -n "__fish_synfin_using_subcommand diagnose" -s o -l output -d 'Form of the output' -r -f -a "text\t'Paragraphs, for the eyes'
json\t'One JSON object a line'"
complete -c synfin -n "__fish_synfin_using_subcommand diagnose" -s n -l numeric -d 'Do not tell ports by the names of their services'
complete -c synfin -n "__fish_synfin_using_subcommand diagnose" -l tracepoints-only -d 'Do not attach programs to the kernel\'s own functions (fentry), even where it allows them: see host.knowledge in docs/columns.md for what they show'
complete -c synfin -n "__fish_synfin_using_subcommand diagnose" -l survey-always -d 'Surveys follow each other without rest, whatever they cost: for tests of the survey'
complete -c synfin -n "__fish_synfin_using_subcommand diagnose" -l by-event -d 'The main hook is attached as on kernels that preempt programs on tracepoints (7.0 and later): for tests of that on others'
complete -c synfin -n "__fish_synfin_using_subcommand diagnose" -s 4 -l ipv4 -d 'IPv4 only, that of IPv6 sockets included'
complete -c synfin -n "__fish_synfin_using_subcommand diagnose" -s 6 -l ipv6 -d 'IPv6 only'
complete -c synfin -n "__fish_synfin_using_subcommand diagnose" -s v -l verbose -d 'Say more: the verifier\'s whole log where it refuses, and with -vv what the kernel side logs'
complete -c synfin -n "__fish_synfin_using_subcommand diagnose" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c synfin -n "__fish_synfin_using_subcommand compare" -l by -d 'What makes a row of a recording, besides the role' -r -f -a "port\t'The service port'
remote\t'The service port, and the address that a client connects to'
owner\t'The process that connects or listens'
netns\t'The network namespace'"
complete -c synfin -n "__fish_synfin_using_subcommand compare" -s o -l output -d 'Form of the output' -r -f -a "text\t'Paragraphs, for the eyes'
json\t'One JSON object a line'"
complete -c synfin -n "__fish_synfin_using_subcommand compare" -s v -l verbose -d 'Say more: the verifier\'s whole log where it refuses, and with -vv what the kernel side logs'
complete -c synfin -n "__fish_synfin_using_subcommand compare" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c synfin -n "__fish_synfin_using_subcommand explain" -s o -l output -d 'Form of the output' -r -f -a "text\t'Paragraphs, for the eyes'
json\t'One JSON object a line'"
complete -c synfin -n "__fish_synfin_using_subcommand explain" -s v -l verbose -d 'Say more: the verifier\'s whole log where it refuses, and with -vv what the kernel side logs'
complete -c synfin -n "__fish_synfin_using_subcommand explain" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c synfin -n "__fish_synfin_using_subcommand completions" -s v -l verbose -d 'Say more: the verifier\'s whole log where it refuses, and with -vv what the kernel side logs'
complete -c synfin -n "__fish_synfin_using_subcommand completions" -s h -l help -d 'Print help'
complete -c synfin -n "__fish_synfin_using_subcommand help; and not __fish_seen_subcommand_from top report trace connections record serve anonymize doctor diagnose compare explain completions help" -f -a "top" -d 'A screen to watch connections on: per port, each connection, what is wrong (the default)'
complete -c synfin -n "__fish_synfin_using_subcommand help; and not __fish_seen_subcommand_from top report trace connections record serve anonymize doctor diagnose compare explain completions help" -f -a "report" -d 'Figures per port: once at the end, or every INTERVAL'
complete -c synfin -n "__fish_synfin_using_subcommand help; and not __fish_seen_subcommand_from top report trace connections record serve anonymize doctor diagnose compare explain completions help" -f -a "trace" -d 'A line for every state change of every connection'
complete -c synfin -n "__fish_synfin_using_subcommand help; and not __fish_seen_subcommand_from top report trace connections record serve anonymize doctor diagnose compare explain completions help" -f -a "connections" -d 'A line for every connection that ends'
complete -c synfin -n "__fish_synfin_using_subcommand help; and not __fish_seen_subcommand_from top report trace connections record serve anonymize doctor diagnose compare explain completions help" -f -a "record" -d 'Write all that is seen to a file, to be read with --from'
complete -c synfin -n "__fish_synfin_using_subcommand help; and not __fish_seen_subcommand_from top report trace connections record serve anonymize doctor diagnose compare explain completions help" -f -a "serve" -d 'Serve metrics for Prometheus and whoever understands its format'
complete -c synfin -n "__fish_synfin_using_subcommand help; and not __fish_seen_subcommand_from top report trace connections record serve anonymize doctor diagnose compare explain completions help" -f -a "anonymize" -d 'Make a recording that can be shared: without addresses and names, with the same figures'
complete -c synfin -n "__fish_synfin_using_subcommand help; and not __fish_seen_subcommand_from top report trace connections record serve anonymize doctor diagnose compare explain completions help" -f -a "doctor" -d 'Say what this host can and cannot do, and try it on connections of its own'
complete -c synfin -n "__fish_synfin_using_subcommand help; and not __fish_seen_subcommand_from top report trace connections record serve anonymize doctor diagnose compare explain completions help" -f -a "diagnose" -d 'Say what is wrong with the traffic, and what to do about it'
complete -c synfin -n "__fish_synfin_using_subcommand help; and not __fish_seen_subcommand_from top report trace connections record serve anonymize doctor diagnose compare explain completions help" -f -a "compare" -d 'What has changed from one recording or report to another'
complete -c synfin -n "__fish_synfin_using_subcommand help; and not __fish_seen_subcommand_from top report trace connections record serve anonymize doctor diagnose compare explain completions help" -f -a "explain" -d 'What a reason, a figure or a TCP state means'
complete -c synfin -n "__fish_synfin_using_subcommand help; and not __fish_seen_subcommand_from top report trace connections record serve anonymize doctor diagnose compare explain completions help" -f -a "completions" -d 'Completions of this command line for a shell'
complete -c synfin -n "__fish_synfin_using_subcommand help; and not __fish_seen_subcommand_from top report trace connections record serve anonymize doctor diagnose compare explain completions help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
