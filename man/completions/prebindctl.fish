# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_prebindctl_global_optspecs
    string join \n d/socket-path= c/command-name= json generate= h/help V/version
end

function __fish_prebindctl_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_prebindctl_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_prebindctl_using_subcommand
    set -l cmd (__fish_prebindctl_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c prebindctl -n "__fish_prebindctl_needs_command" -s d -l socket-path -d 'The control socket of the prebind to ask' -r -F
complete -c prebindctl -n "__fish_prebindctl_needs_command" -s c -l command-name -d 'The prebind of that name; without -c and -d: the only one that runs' -r
complete -c prebindctl -n "__fish_prebindctl_needs_command" -l generate -d 'Print one of man, completions-bash, completions-zsh, completions-fish' -r -f -a "man\t''
completions-bash\t''
completions-zsh\t''
completions-fish\t''"
complete -c prebindctl -n "__fish_prebindctl_needs_command" -l json -d 'Print the answer as one line of JSON'
complete -c prebindctl -n "__fish_prebindctl_needs_command" -s h -l help -d 'Print help'
complete -c prebindctl -n "__fish_prebindctl_needs_command" -s V -l version -d 'Print version'
complete -c prebindctl -n "__fish_prebindctl_needs_command" -f -a "status" -d 'Show the sockets, the services and their workers'
complete -c prebindctl -n "__fish_prebindctl_needs_command" -f -a "ready" -d 'Exit with 0 when every service has as many ready workers as asked for, else with 1'
complete -c prebindctl -n "__fish_prebindctl_needs_command" -f -a "live" -d 'Exit with 0 when prebind answers, else with 1'
complete -c prebindctl -n "__fish_prebindctl_needs_command" -f -a "scale" -d 'Run another number of workers'
complete -c prebindctl -n "__fish_prebindctl_needs_command" -f -a "restart" -d 'Replace the workers one by one: the new one is ready before the old one is told to stop'
complete -c prebindctl -n "__fish_prebindctl_needs_command" -f -a "upgrade" -d 'Replace the workers by those of the next generation; a version that does not get ready is taken back'
complete -c prebindctl -n "__fish_prebindctl_needs_command" -f -a "reload" -d 'Let the workers read their configuration again (a unit\'s ExecReload=, notify-reload); else upgrade'
complete -c prebindctl -n "__fish_prebindctl_needs_command" -f -a "promote" -d 'The worker on trial is fine: go on with the upgrade'
complete -c prebindctl -n "__fish_prebindctl_needs_command" -f -a "rollback" -d 'Give the upgrade up that is under way'
complete -c prebindctl -n "__fish_prebindctl_needs_command" -f -a "reexec" -d 'Replace prebind\'s own program in place; the workers go on'
complete -c prebindctl -n "__fish_prebindctl_needs_command" -f -a "signal" -d 'Send a signal to the main process of every worker'
complete -c prebindctl -n "__fish_prebindctl_needs_command" -f -a "stop" -d 'Stop every worker, then prebind'
complete -c prebindctl -n "__fish_prebindctl_needs_command" -f -a "events" -d 'Print what happens as it happens, one line of JSON each'
complete -c prebindctl -n "__fish_prebindctl_needs_command" -f -a "incr" -d 'Run N workers more (Circus\'s word for scale)'
complete -c prebindctl -n "__fish_prebindctl_needs_command" -f -a "decr" -d 'Run N workers less'
complete -c prebindctl -n "__fish_prebindctl_needs_command" -f -a "numprocesses" -d 'Print how many workers are asked for'
complete -c prebindctl -n "__fish_prebindctl_needs_command" -f -a "list" -d 'Print the services, or the pids of one\'s workers'
complete -c prebindctl -n "__fish_prebindctl_needs_command" -f -a "listsockets" -d 'Print each socket with its name and its address'
complete -c prebindctl -n "__fish_prebindctl_needs_command" -f -a "numwatchers" -d 'Print how many services there are'
complete -c prebindctl -n "__fish_prebindctl_needs_command" -f -a "options" -d 'Print how a service is run, in Circus\'s words where it has them; of variables only the names'
complete -c prebindctl -n "__fish_prebindctl_needs_command" -f -a "stats" -d 'Show what each worker costs: CPU time, resident memory, descriptors'
complete -c prebindctl -n "__fish_prebindctl_using_subcommand status" -s d -l socket-path -d 'The control socket of the prebind to ask' -r -F
complete -c prebindctl -n "__fish_prebindctl_using_subcommand status" -s c -l command-name -d 'The prebind of that name; without -c and -d: the only one that runs' -r
complete -c prebindctl -n "__fish_prebindctl_using_subcommand status" -l json -d 'Print the answer as one line of JSON'
complete -c prebindctl -n "__fish_prebindctl_using_subcommand status" -s h -l help -d 'Print help'
complete -c prebindctl -n "__fish_prebindctl_using_subcommand ready" -s d -l socket-path -d 'The control socket of the prebind to ask' -r -F
complete -c prebindctl -n "__fish_prebindctl_using_subcommand ready" -s c -l command-name -d 'The prebind of that name; without -c and -d: the only one that runs' -r
complete -c prebindctl -n "__fish_prebindctl_using_subcommand ready" -l json -d 'Print the answer as one line of JSON'
complete -c prebindctl -n "__fish_prebindctl_using_subcommand ready" -s h -l help -d 'Print help'
complete -c prebindctl -n "__fish_prebindctl_using_subcommand live" -s d -l socket-path -d 'The control socket of the prebind to ask' -r -F
complete -c prebindctl -n "__fish_prebindctl_using_subcommand live" -s c -l command-name -d 'The prebind of that name; without -c and -d: the only one that runs' -r
complete -c prebindctl -n "__fish_prebindctl_using_subcommand live" -l json -d 'Print the answer as one line of JSON'
complete -c prebindctl -n "__fish_prebindctl_using_subcommand live" -s h -l help -d 'Print help'
complete -c prebindctl -n "__fish_prebindctl_using_subcommand scale" -s d -l socket-path -d 'The control socket of the prebind to ask' -r -F
complete -c prebindctl -n "__fish_prebindctl_using_subcommand scale" -s c -l command-name -d 'The prebind of that name; without -c and -d: the only one that runs' -r
complete -c prebindctl -n "__fish_prebindctl_using_subcommand scale" -l json -d 'Print the answer as one line of JSON'
complete -c prebindctl -n "__fish_prebindctl_using_subcommand scale" -s h -l help -d 'Print help'
complete -c prebindctl -n "__fish_prebindctl_using_subcommand restart" -l slot -d 'Only the worker of that slot' -r
complete -c prebindctl -n "__fish_prebindctl_using_subcommand restart" -s d -l socket-path -d 'The control socket of the prebind to ask' -r -F
complete -c prebindctl -n "__fish_prebindctl_using_subcommand restart" -s c -l command-name -d 'The prebind of that name; without -c and -d: the only one that runs' -r
complete -c prebindctl -n "__fish_prebindctl_using_subcommand restart" -l json -d 'Print the answer as one line of JSON'
complete -c prebindctl -n "__fish_prebindctl_using_subcommand restart" -s h -l help -d 'Print help'
complete -c prebindctl -n "__fish_prebindctl_using_subcommand upgrade" -l strategy -d 'rolling, fleet or canary, whatever prebind was started with' -r -f -a "rolling\t''
fleet\t''
canary\t''"
complete -c prebindctl -n "__fish_prebindctl_using_subcommand upgrade" -l timeout -d 'How long a new worker may take to be ready' -r
complete -c prebindctl -n "__fish_prebindctl_using_subcommand upgrade" -l wait -d 'Until every old worker is told to stop (the default), or is gone' -r -f -a "told\t''
drained\t''"
complete -c prebindctl -n "__fish_prebindctl_using_subcommand upgrade" -s d -l socket-path -d 'The control socket of the prebind to ask' -r -F
complete -c prebindctl -n "__fish_prebindctl_using_subcommand upgrade" -s c -l command-name -d 'The prebind of that name; without -c and -d: the only one that runs' -r
complete -c prebindctl -n "__fish_prebindctl_using_subcommand upgrade" -l no-wait -d 'Only begin'
complete -c prebindctl -n "__fish_prebindctl_using_subcommand upgrade" -l json -d 'Print the answer as one line of JSON'
complete -c prebindctl -n "__fish_prebindctl_using_subcommand upgrade" -s h -l help -d 'Print help'
complete -c prebindctl -n "__fish_prebindctl_using_subcommand reload" -s d -l socket-path -d 'The control socket of the prebind to ask' -r -F
complete -c prebindctl -n "__fish_prebindctl_using_subcommand reload" -s c -l command-name -d 'The prebind of that name; without -c and -d: the only one that runs' -r
complete -c prebindctl -n "__fish_prebindctl_using_subcommand reload" -l sequential -d 'Replace the workers one by one, whatever the service\'s own way is (restart)'
complete -c prebindctl -n "__fish_prebindctl_using_subcommand reload" -l json -d 'Print the answer as one line of JSON'
complete -c prebindctl -n "__fish_prebindctl_using_subcommand reload" -s h -l help -d 'Print help'
complete -c prebindctl -n "__fish_prebindctl_using_subcommand promote" -s d -l socket-path -d 'The control socket of the prebind to ask' -r -F
complete -c prebindctl -n "__fish_prebindctl_using_subcommand promote" -s c -l command-name -d 'The prebind of that name; without -c and -d: the only one that runs' -r
complete -c prebindctl -n "__fish_prebindctl_using_subcommand promote" -l json -d 'Print the answer as one line of JSON'
complete -c prebindctl -n "__fish_prebindctl_using_subcommand promote" -s h -l help -d 'Print help'
complete -c prebindctl -n "__fish_prebindctl_using_subcommand rollback" -s d -l socket-path -d 'The control socket of the prebind to ask' -r -F
complete -c prebindctl -n "__fish_prebindctl_using_subcommand rollback" -s c -l command-name -d 'The prebind of that name; without -c and -d: the only one that runs' -r
complete -c prebindctl -n "__fish_prebindctl_using_subcommand rollback" -l json -d 'Print the answer as one line of JSON'
complete -c prebindctl -n "__fish_prebindctl_using_subcommand rollback" -s h -l help -d 'Print help'
complete -c prebindctl -n "__fish_prebindctl_using_subcommand reexec" -s d -l socket-path -d 'The control socket of the prebind to ask' -r -F
complete -c prebindctl -n "__fish_prebindctl_using_subcommand reexec" -s c -l command-name -d 'The prebind of that name; without -c and -d: the only one that runs' -r
complete -c prebindctl -n "__fish_prebindctl_using_subcommand reexec" -l json -d 'Print the answer as one line of JSON'
complete -c prebindctl -n "__fish_prebindctl_using_subcommand reexec" -s h -l help -d 'Print help'
complete -c prebindctl -n "__fish_prebindctl_using_subcommand signal" -s d -l socket-path -d 'The control socket of the prebind to ask' -r -F
complete -c prebindctl -n "__fish_prebindctl_using_subcommand signal" -s c -l command-name -d 'The prebind of that name; without -c and -d: the only one that runs' -r
complete -c prebindctl -n "__fish_prebindctl_using_subcommand signal" -l json -d 'Print the answer as one line of JSON'
complete -c prebindctl -n "__fish_prebindctl_using_subcommand signal" -s h -l help -d 'Print help'
complete -c prebindctl -n "__fish_prebindctl_using_subcommand stop" -s d -l socket-path -d 'The control socket of the prebind to ask' -r -F
complete -c prebindctl -n "__fish_prebindctl_using_subcommand stop" -s c -l command-name -d 'The prebind of that name; without -c and -d: the only one that runs' -r
complete -c prebindctl -n "__fish_prebindctl_using_subcommand stop" -l json -d 'Print the answer as one line of JSON'
complete -c prebindctl -n "__fish_prebindctl_using_subcommand stop" -s h -l help -d 'Print help'
complete -c prebindctl -n "__fish_prebindctl_using_subcommand events" -s d -l socket-path -d 'The control socket of the prebind to ask' -r -F
complete -c prebindctl -n "__fish_prebindctl_using_subcommand events" -s c -l command-name -d 'The prebind of that name; without -c and -d: the only one that runs' -r
complete -c prebindctl -n "__fish_prebindctl_using_subcommand events" -l json -d 'Print the answer as one line of JSON'
complete -c prebindctl -n "__fish_prebindctl_using_subcommand events" -s h -l help -d 'Print help'
complete -c prebindctl -n "__fish_prebindctl_using_subcommand incr" -s d -l socket-path -d 'The control socket of the prebind to ask' -r -F
complete -c prebindctl -n "__fish_prebindctl_using_subcommand incr" -s c -l command-name -d 'The prebind of that name; without -c and -d: the only one that runs' -r
complete -c prebindctl -n "__fish_prebindctl_using_subcommand incr" -l json -d 'Print the answer as one line of JSON'
complete -c prebindctl -n "__fish_prebindctl_using_subcommand incr" -s h -l help -d 'Print help'
complete -c prebindctl -n "__fish_prebindctl_using_subcommand decr" -s d -l socket-path -d 'The control socket of the prebind to ask' -r -F
complete -c prebindctl -n "__fish_prebindctl_using_subcommand decr" -s c -l command-name -d 'The prebind of that name; without -c and -d: the only one that runs' -r
complete -c prebindctl -n "__fish_prebindctl_using_subcommand decr" -l json -d 'Print the answer as one line of JSON'
complete -c prebindctl -n "__fish_prebindctl_using_subcommand decr" -s h -l help -d 'Print help'
complete -c prebindctl -n "__fish_prebindctl_using_subcommand numprocesses" -s d -l socket-path -d 'The control socket of the prebind to ask' -r -F
complete -c prebindctl -n "__fish_prebindctl_using_subcommand numprocesses" -s c -l command-name -d 'The prebind of that name; without -c and -d: the only one that runs' -r
complete -c prebindctl -n "__fish_prebindctl_using_subcommand numprocesses" -l json -d 'Print the answer as one line of JSON'
complete -c prebindctl -n "__fish_prebindctl_using_subcommand numprocesses" -s h -l help -d 'Print help'
complete -c prebindctl -n "__fish_prebindctl_using_subcommand list" -s d -l socket-path -d 'The control socket of the prebind to ask' -r -F
complete -c prebindctl -n "__fish_prebindctl_using_subcommand list" -s c -l command-name -d 'The prebind of that name; without -c and -d: the only one that runs' -r
complete -c prebindctl -n "__fish_prebindctl_using_subcommand list" -l json -d 'Print the answer as one line of JSON'
complete -c prebindctl -n "__fish_prebindctl_using_subcommand list" -s h -l help -d 'Print help'
complete -c prebindctl -n "__fish_prebindctl_using_subcommand listsockets" -s d -l socket-path -d 'The control socket of the prebind to ask' -r -F
complete -c prebindctl -n "__fish_prebindctl_using_subcommand listsockets" -s c -l command-name -d 'The prebind of that name; without -c and -d: the only one that runs' -r
complete -c prebindctl -n "__fish_prebindctl_using_subcommand listsockets" -l json -d 'Print the answer as one line of JSON'
complete -c prebindctl -n "__fish_prebindctl_using_subcommand listsockets" -s h -l help -d 'Print help'
complete -c prebindctl -n "__fish_prebindctl_using_subcommand numwatchers" -s d -l socket-path -d 'The control socket of the prebind to ask' -r -F
complete -c prebindctl -n "__fish_prebindctl_using_subcommand numwatchers" -s c -l command-name -d 'The prebind of that name; without -c and -d: the only one that runs' -r
complete -c prebindctl -n "__fish_prebindctl_using_subcommand numwatchers" -l json -d 'Print the answer as one line of JSON'
complete -c prebindctl -n "__fish_prebindctl_using_subcommand numwatchers" -s h -l help -d 'Print help'
complete -c prebindctl -n "__fish_prebindctl_using_subcommand options" -s d -l socket-path -d 'The control socket of the prebind to ask' -r -F
complete -c prebindctl -n "__fish_prebindctl_using_subcommand options" -s c -l command-name -d 'The prebind of that name; without -c and -d: the only one that runs' -r
complete -c prebindctl -n "__fish_prebindctl_using_subcommand options" -l json -d 'Print the answer as one line of JSON'
complete -c prebindctl -n "__fish_prebindctl_using_subcommand options" -s h -l help -d 'Print help'
complete -c prebindctl -n "__fish_prebindctl_using_subcommand stats" -s d -l socket-path -d 'The control socket of the prebind to ask' -r -F
complete -c prebindctl -n "__fish_prebindctl_using_subcommand stats" -s c -l command-name -d 'The prebind of that name; without -c and -d: the only one that runs' -r
complete -c prebindctl -n "__fish_prebindctl_using_subcommand stats" -l watch -d 'Again and again, each second'
complete -c prebindctl -n "__fish_prebindctl_using_subcommand stats" -l json -d 'Print the answer as one line of JSON'
complete -c prebindctl -n "__fish_prebindctl_using_subcommand stats" -s h -l help -d 'Print help'
