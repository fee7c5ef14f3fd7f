#compdef prebindctl

autoload -U is-at-least

_prebindctl() {
    typeset -A opt_args
    typeset -a _arguments_options
    local ret=1

    if is-at-least 5.2; then
        _arguments_options=(-s -S -C)
    else
        _arguments_options=(-s -C)
    fi

    local context curcontext="$curcontext" state line
    _arguments "${_arguments_options[@]}" : \
'-d+[The control socket of the prebind to ask]:PATH:_files' \
'--socket-path=[The control socket of the prebind to ask]:PATH:_files' \
'(-d --socket-path)-c+[The prebind of that name; without -c and -d\: the only one that runs]:NAME:_default' \
'(-d --socket-path)--command-name=[The prebind of that name; without -c and -d\: the only one that runs]:NAME:_default' \
'--generate=[Print one of man, completions-bash, completions-zsh, completions-fish]:WHAT:(man completions-bash completions-zsh completions-fish)' \
'--json[Print the answer as one line of JSON]' \
'-h[Print help]' \
'--help[Print help]' \
'-V[Print version]' \
'--version[Print version]' \
":: :_prebindctl_commands" \
"*::: :->prebindctl" \
&& ret=0
    case $state in
    (prebindctl)
        words=($line[1] "${words[@]}")
        (( CURRENT += 1 ))
        curcontext="${curcontext%:*:*}:prebindctl-command-$line[1]:"
        case $line[1] in
            (status)
_arguments "${_arguments_options[@]}" : \
'-d+[The control socket of the prebind to ask]:PATH:_files' \
'--socket-path=[The control socket of the prebind to ask]:PATH:_files' \
'(-d --socket-path)-c+[The prebind of that name; without -c and -d\: the only one that runs]:NAME:_default' \
'(-d --socket-path)--command-name=[The prebind of that name; without -c and -d\: the only one that runs]:NAME:_default' \
'--json[Print the answer as one line of JSON]' \
'-h[Print help]' \
'--help[Print help]' \
&& ret=0
;;
(ready)
_arguments "${_arguments_options[@]}" : \
'-d+[The control socket of the prebind to ask]:PATH:_files' \
'--socket-path=[The control socket of the prebind to ask]:PATH:_files' \
'(-d --socket-path)-c+[The prebind of that name; without -c and -d\: the only one that runs]:NAME:_default' \
'(-d --socket-path)--command-name=[The prebind of that name; without -c and -d\: the only one that runs]:NAME:_default' \
'--json[Print the answer as one line of JSON]' \
'-h[Print help]' \
'--help[Print help]' \
&& ret=0
;;
(live)
_arguments "${_arguments_options[@]}" : \
'-d+[The control socket of the prebind to ask]:PATH:_files' \
'--socket-path=[The control socket of the prebind to ask]:PATH:_files' \
'(-d --socket-path)-c+[The prebind of that name; without -c and -d\: the only one that runs]:NAME:_default' \
'(-d --socket-path)--command-name=[The prebind of that name; without -c and -d\: the only one that runs]:NAME:_default' \
'--json[Print the answer as one line of JSON]' \
'-h[Print help]' \
'--help[Print help]' \
&& ret=0
;;
(scale)
_arguments "${_arguments_options[@]}" : \
'-d+[The control socket of the prebind to ask]:PATH:_files' \
'--socket-path=[The control socket of the prebind to ask]:PATH:_files' \
'(-d --socket-path)-c+[The prebind of that name; without -c and -d\: the only one that runs]:NAME:_default' \
'(-d --socket-path)--command-name=[The prebind of that name; without -c and -d\: the only one that runs]:NAME:_default' \
'--json[Print the answer as one line of JSON]' \
'-h[Print help]' \
'--help[Print help]' \
'::service -- Which service; all of them (scale\: the only one) without:_default' \
':number -- So many:_default' \
&& ret=0
;;
(restart)
_arguments "${_arguments_options[@]}" : \
'--slot=[Only the worker of that slot]:N:_default' \
'-d+[The control socket of the prebind to ask]:PATH:_files' \
'--socket-path=[The control socket of the prebind to ask]:PATH:_files' \
'(-d --socket-path)-c+[The prebind of that name; without -c and -d\: the only one that runs]:NAME:_default' \
'(-d --socket-path)--command-name=[The prebind of that name; without -c and -d\: the only one that runs]:NAME:_default' \
'--json[Print the answer as one line of JSON]' \
'-h[Print help]' \
'--help[Print help]' \
'::service -- Which service; all of them (scale\: the only one) without:_default' \
&& ret=0
;;
(upgrade)
_arguments "${_arguments_options[@]}" : \
'--strategy=[rolling, fleet or canary, whatever prebind was started with]:HOW:(rolling fleet canary)' \
'--timeout=[How long a new worker may take to be ready]:SECONDS:_default' \
'--wait=[Until every old worker is told to stop (the default), or is gone]:UNTIL:(told drained)' \
'-d+[The control socket of the prebind to ask]:PATH:_files' \
'--socket-path=[The control socket of the prebind to ask]:PATH:_files' \
'(-d --socket-path)-c+[The prebind of that name; without -c and -d\: the only one that runs]:NAME:_default' \
'(-d --socket-path)--command-name=[The prebind of that name; without -c and -d\: the only one that runs]:NAME:_default' \
'(--wait)--no-wait[Only begin]' \
'--json[Print the answer as one line of JSON]' \
'-h[Print help]' \
'--help[Print help]' \
'::service -- Which service; all of them (scale\: the only one) without:_default' \
&& ret=0
;;
(reload)
_arguments "${_arguments_options[@]}" : \
'-d+[The control socket of the prebind to ask]:PATH:_files' \
'--socket-path=[The control socket of the prebind to ask]:PATH:_files' \
'(-d --socket-path)-c+[The prebind of that name; without -c and -d\: the only one that runs]:NAME:_default' \
'(-d --socket-path)--command-name=[The prebind of that name; without -c and -d\: the only one that runs]:NAME:_default' \
'--sequential[Replace the workers one by one, whatever the service'\''s own way is (restart)]' \
'--json[Print the answer as one line of JSON]' \
'-h[Print help]' \
'--help[Print help]' \
'::service -- Which service; all of them (scale\: the only one) without:_default' \
&& ret=0
;;
(promote)
_arguments "${_arguments_options[@]}" : \
'-d+[The control socket of the prebind to ask]:PATH:_files' \
'--socket-path=[The control socket of the prebind to ask]:PATH:_files' \
'(-d --socket-path)-c+[The prebind of that name; without -c and -d\: the only one that runs]:NAME:_default' \
'(-d --socket-path)--command-name=[The prebind of that name; without -c and -d\: the only one that runs]:NAME:_default' \
'--json[Print the answer as one line of JSON]' \
'-h[Print help]' \
'--help[Print help]' \
'::service -- Which service; all of them (scale\: the only one) without:_default' \
&& ret=0
;;
(rollback)
_arguments "${_arguments_options[@]}" : \
'-d+[The control socket of the prebind to ask]:PATH:_files' \
'--socket-path=[The control socket of the prebind to ask]:PATH:_files' \
'(-d --socket-path)-c+[The prebind of that name; without -c and -d\: the only one that runs]:NAME:_default' \
'(-d --socket-path)--command-name=[The prebind of that name; without -c and -d\: the only one that runs]:NAME:_default' \
'--json[Print the answer as one line of JSON]' \
'-h[Print help]' \
'--help[Print help]' \
'::service -- Which service; all of them (scale\: the only one) without:_default' \
&& ret=0
;;
(reexec)
_arguments "${_arguments_options[@]}" : \
'-d+[The control socket of the prebind to ask]:PATH:_files' \
'--socket-path=[The control socket of the prebind to ask]:PATH:_files' \
'(-d --socket-path)-c+[The prebind of that name; without -c and -d\: the only one that runs]:NAME:_default' \
'(-d --socket-path)--command-name=[The prebind of that name; without -c and -d\: the only one that runs]:NAME:_default' \
'--json[Print the answer as one line of JSON]' \
'-h[Print help]' \
'--help[Print help]' \
&& ret=0
;;
(signal)
_arguments "${_arguments_options[@]}" : \
'-d+[The control socket of the prebind to ask]:PATH:_files' \
'--socket-path=[The control socket of the prebind to ask]:PATH:_files' \
'(-d --socket-path)-c+[The prebind of that name; without -c and -d\: the only one that runs]:NAME:_default' \
'(-d --socket-path)--command-name=[The prebind of that name; without -c and -d\: the only one that runs]:NAME:_default' \
'--json[Print the answer as one line of JSON]' \
'-h[Print help]' \
'--help[Print help]' \
'::service -- Which service; all of them (scale\: the only one) without:_default' \
':signal -- Its name, with or without SIG, or its number:_default' \
&& ret=0
;;
(stop)
_arguments "${_arguments_options[@]}" : \
'-d+[The control socket of the prebind to ask]:PATH:_files' \
'--socket-path=[The control socket of the prebind to ask]:PATH:_files' \
'(-d --socket-path)-c+[The prebind of that name; without -c and -d\: the only one that runs]:NAME:_default' \
'(-d --socket-path)--command-name=[The prebind of that name; without -c and -d\: the only one that runs]:NAME:_default' \
'--json[Print the answer as one line of JSON]' \
'-h[Print help]' \
'--help[Print help]' \
&& ret=0
;;
(events)
_arguments "${_arguments_options[@]}" : \
'-d+[The control socket of the prebind to ask]:PATH:_files' \
'--socket-path=[The control socket of the prebind to ask]:PATH:_files' \
'(-d --socket-path)-c+[The prebind of that name; without -c and -d\: the only one that runs]:NAME:_default' \
'(-d --socket-path)--command-name=[The prebind of that name; without -c and -d\: the only one that runs]:NAME:_default' \
'--json[Print the answer as one line of JSON]' \
'-h[Print help]' \
'--help[Print help]' \
&& ret=0
;;
(incr)
_arguments "${_arguments_options[@]}" : \
'-d+[The control socket of the prebind to ask]:PATH:_files' \
'--socket-path=[The control socket of the prebind to ask]:PATH:_files' \
'(-d --socket-path)-c+[The prebind of that name; without -c and -d\: the only one that runs]:NAME:_default' \
'(-d --socket-path)--command-name=[The prebind of that name; without -c and -d\: the only one that runs]:NAME:_default' \
'--json[Print the answer as one line of JSON]' \
'-h[Print help]' \
'--help[Print help]' \
'::service -- Which service; the only one without:_default' \
'::step -- So many:_default' \
&& ret=0
;;
(decr)
_arguments "${_arguments_options[@]}" : \
'-d+[The control socket of the prebind to ask]:PATH:_files' \
'--socket-path=[The control socket of the prebind to ask]:PATH:_files' \
'(-d --socket-path)-c+[The prebind of that name; without -c and -d\: the only one that runs]:NAME:_default' \
'(-d --socket-path)--command-name=[The prebind of that name; without -c and -d\: the only one that runs]:NAME:_default' \
'--json[Print the answer as one line of JSON]' \
'-h[Print help]' \
'--help[Print help]' \
'::service -- Which service; the only one without:_default' \
'::step -- So many:_default' \
&& ret=0
;;
(numprocesses)
_arguments "${_arguments_options[@]}" : \
'-d+[The control socket of the prebind to ask]:PATH:_files' \
'--socket-path=[The control socket of the prebind to ask]:PATH:_files' \
'(-d --socket-path)-c+[The prebind of that name; without -c and -d\: the only one that runs]:NAME:_default' \
'(-d --socket-path)--command-name=[The prebind of that name; without -c and -d\: the only one that runs]:NAME:_default' \
'--json[Print the answer as one line of JSON]' \
'-h[Print help]' \
'--help[Print help]' \
'::service -- Which service; all of them (scale\: the only one) without:_default' \
&& ret=0
;;
(list)
_arguments "${_arguments_options[@]}" : \
'-d+[The control socket of the prebind to ask]:PATH:_files' \
'--socket-path=[The control socket of the prebind to ask]:PATH:_files' \
'(-d --socket-path)-c+[The prebind of that name; without -c and -d\: the only one that runs]:NAME:_default' \
'(-d --socket-path)--command-name=[The prebind of that name; without -c and -d\: the only one that runs]:NAME:_default' \
'--json[Print the answer as one line of JSON]' \
'-h[Print help]' \
'--help[Print help]' \
'::service -- Which service; all of them (scale\: the only one) without:_default' \
&& ret=0
;;
(listsockets)
_arguments "${_arguments_options[@]}" : \
'-d+[The control socket of the prebind to ask]:PATH:_files' \
'--socket-path=[The control socket of the prebind to ask]:PATH:_files' \
'(-d --socket-path)-c+[The prebind of that name; without -c and -d\: the only one that runs]:NAME:_default' \
'(-d --socket-path)--command-name=[The prebind of that name; without -c and -d\: the only one that runs]:NAME:_default' \
'--json[Print the answer as one line of JSON]' \
'-h[Print help]' \
'--help[Print help]' \
&& ret=0
;;
(numwatchers)
_arguments "${_arguments_options[@]}" : \
'-d+[The control socket of the prebind to ask]:PATH:_files' \
'--socket-path=[The control socket of the prebind to ask]:PATH:_files' \
'(-d --socket-path)-c+[The prebind of that name; without -c and -d\: the only one that runs]:NAME:_default' \
'(-d --socket-path)--command-name=[The prebind of that name; without -c and -d\: the only one that runs]:NAME:_default' \
'--json[Print the answer as one line of JSON]' \
'-h[Print help]' \
'--help[Print help]' \
&& ret=0
;;
(options)
_arguments "${_arguments_options[@]}" : \
'-d+[The control socket of the prebind to ask]:PATH:_files' \
'--socket-path=[The control socket of the prebind to ask]:PATH:_files' \
'(-d --socket-path)-c+[The prebind of that name; without -c and -d\: the only one that runs]:NAME:_default' \
'(-d --socket-path)--command-name=[The prebind of that name; without -c and -d\: the only one that runs]:NAME:_default' \
'--json[Print the answer as one line of JSON]' \
'-h[Print help]' \
'--help[Print help]' \
'::service -- Which service; all of them (scale\: the only one) without:_default' \
&& ret=0
;;
(stats)
_arguments "${_arguments_options[@]}" : \
'-d+[The control socket of the prebind to ask]:PATH:_files' \
'--socket-path=[The control socket of the prebind to ask]:PATH:_files' \
'(-d --socket-path)-c+[The prebind of that name; without -c and -d\: the only one that runs]:NAME:_default' \
'(-d --socket-path)--command-name=[The prebind of that name; without -c and -d\: the only one that runs]:NAME:_default' \
'--watch[Again and again, each second]' \
'--json[Print the answer as one line of JSON]' \
'-h[Print help]' \
'--help[Print help]' \
'::service -- Which service; all of them (scale\: the only one) without:_default' \
&& ret=0
;;
        esac
    ;;
esac
}

(( $+functions[_prebindctl_commands] )) ||
_prebindctl_commands() {
    local commands; commands=(
'status:Show the sockets, the services and their workers' \
'ready:Exit with 0 when every service has as many ready workers as asked for, else with 1' \
'live:Exit with 0 when prebind answers, else with 1' \
'scale:Run another number of workers' \
'restart:Replace the workers one by one\: the new one is ready before the old one is told to stop' \
'upgrade:Replace the workers by those of the next generation; a version that does not get ready is taken back' \
'reload:Let the workers read their configuration again (a unit'\''s ExecReload=, notify-reload); else upgrade' \
'promote:The worker on trial is fine\: go on with the upgrade' \
'rollback:Give the upgrade up that is under way' \
'reexec:Replace prebind'\''s own program in place; the workers go on' \
'signal:Send a signal to the main process of every worker' \
'stop:Stop every worker, then prebind' \
'events:Print what happens as it happens, one line of JSON each' \
'incr:Run N workers more (Circus'\''s word for scale)' \
'decr:Run N workers less' \
'numprocesses:Print how many workers are asked for' \
'list:Print the services, or the pids of one'\''s workers' \
'listsockets:Print each socket with its name and its address' \
'numwatchers:Print how many services there are' \
'options:Print how a service is run, in Circus'\''s words where it has them; of variables only the names' \
'stats:Show what each worker costs\: CPU time, resident memory, descriptors' \
    )
    _describe -t commands 'prebindctl commands' commands "$@"
}
(( $+functions[_prebindctl__subcmd__decr_commands] )) ||
_prebindctl__subcmd__decr_commands() {
    local commands; commands=()
    _describe -t commands 'prebindctl decr commands' commands "$@"
}
(( $+functions[_prebindctl__subcmd__events_commands] )) ||
_prebindctl__subcmd__events_commands() {
    local commands; commands=()
    _describe -t commands 'prebindctl events commands' commands "$@"
}
(( $+functions[_prebindctl__subcmd__incr_commands] )) ||
_prebindctl__subcmd__incr_commands() {
    local commands; commands=()
    _describe -t commands 'prebindctl incr commands' commands "$@"
}
(( $+functions[_prebindctl__subcmd__list_commands] )) ||
_prebindctl__subcmd__list_commands() {
    local commands; commands=()
    _describe -t commands 'prebindctl list commands' commands "$@"
}
(( $+functions[_prebindctl__subcmd__listsockets_commands] )) ||
_prebindctl__subcmd__listsockets_commands() {
    local commands; commands=()
    _describe -t commands 'prebindctl listsockets commands' commands "$@"
}
(( $+functions[_prebindctl__subcmd__live_commands] )) ||
_prebindctl__subcmd__live_commands() {
    local commands; commands=()
    _describe -t commands 'prebindctl live commands' commands "$@"
}
(( $+functions[_prebindctl__subcmd__numprocesses_commands] )) ||
_prebindctl__subcmd__numprocesses_commands() {
    local commands; commands=()
    _describe -t commands 'prebindctl numprocesses commands' commands "$@"
}
(( $+functions[_prebindctl__subcmd__numwatchers_commands] )) ||
_prebindctl__subcmd__numwatchers_commands() {
    local commands; commands=()
    _describe -t commands 'prebindctl numwatchers commands' commands "$@"
}
(( $+functions[_prebindctl__subcmd__options_commands] )) ||
_prebindctl__subcmd__options_commands() {
    local commands; commands=()
    _describe -t commands 'prebindctl options commands' commands "$@"
}
(( $+functions[_prebindctl__subcmd__promote_commands] )) ||
_prebindctl__subcmd__promote_commands() {
    local commands; commands=()
    _describe -t commands 'prebindctl promote commands' commands "$@"
}
(( $+functions[_prebindctl__subcmd__ready_commands] )) ||
_prebindctl__subcmd__ready_commands() {
    local commands; commands=()
    _describe -t commands 'prebindctl ready commands' commands "$@"
}
(( $+functions[_prebindctl__subcmd__reexec_commands] )) ||
_prebindctl__subcmd__reexec_commands() {
    local commands; commands=()
    _describe -t commands 'prebindctl reexec commands' commands "$@"
}
(( $+functions[_prebindctl__subcmd__reload_commands] )) ||
_prebindctl__subcmd__reload_commands() {
    local commands; commands=()
    _describe -t commands 'prebindctl reload commands' commands "$@"
}
(( $+functions[_prebindctl__subcmd__restart_commands] )) ||
_prebindctl__subcmd__restart_commands() {
    local commands; commands=()
    _describe -t commands 'prebindctl restart commands' commands "$@"
}
(( $+functions[_prebindctl__subcmd__rollback_commands] )) ||
_prebindctl__subcmd__rollback_commands() {
    local commands; commands=()
    _describe -t commands 'prebindctl rollback commands' commands "$@"
}
(( $+functions[_prebindctl__subcmd__scale_commands] )) ||
_prebindctl__subcmd__scale_commands() {
    local commands; commands=()
    _describe -t commands 'prebindctl scale commands' commands "$@"
}
(( $+functions[_prebindctl__subcmd__signal_commands] )) ||
_prebindctl__subcmd__signal_commands() {
    local commands; commands=()
    _describe -t commands 'prebindctl signal commands' commands "$@"
}
(( $+functions[_prebindctl__subcmd__stats_commands] )) ||
_prebindctl__subcmd__stats_commands() {
    local commands; commands=()
    _describe -t commands 'prebindctl stats commands' commands "$@"
}
(( $+functions[_prebindctl__subcmd__status_commands] )) ||
_prebindctl__subcmd__status_commands() {
    local commands; commands=()
    _describe -t commands 'prebindctl status commands' commands "$@"
}
(( $+functions[_prebindctl__subcmd__stop_commands] )) ||
_prebindctl__subcmd__stop_commands() {
    local commands; commands=()
    _describe -t commands 'prebindctl stop commands' commands "$@"
}
(( $+functions[_prebindctl__subcmd__upgrade_commands] )) ||
_prebindctl__subcmd__upgrade_commands() {
    local commands; commands=()
    _describe -t commands 'prebindctl upgrade commands' commands "$@"
}

if [ "$funcstack[1]" = "_prebindctl" ]; then
    _prebindctl "$@"
else
    compdef _prebindctl prebindctl
fi
