#compdef prebind

autoload -U is-at-least

_prebind() {
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
'*-b+[Bind a socket; repeatable, in the order of the descriptors from 3. ADDR\: PORT, HOST\:PORT, *\:PORT, \[V6\]\:PORT, /path, @abstract, vsock\:CID\:PORT or fd\:N, after tcp\: (default), udp\:, unix\:, unixgram\:, seqpacket\: or fifo\:]:[NAME=]ADDR[,OPT]...:_default' \
'*--bind=[Bind a socket; repeatable, in the order of the descriptors from 3. ADDR\: PORT, HOST\:PORT, *\:PORT, \[V6\]\:PORT, /path, @abstract, vsock\:CID\:PORT or fd\:N, after tcp\: (default), udp\:, unix\:, unixgram\:, seqpacket\: or fifo\:]:[NAME=]ADDR[,OPT]...:_default' \
'-l+[Connections that may wait \[default\: what the kernel allows\]]:N:_default' \
'--backlog=[Connections that may wait \[default\: what the kernel allows\]]:N:_default' \
'--listen-env=[Which of LISTEN_FDS, LISTEN_FDNAMES and LISTEN_PID workers get; auto\: no LISTEN_PID where the command names a socket \[default\: auto\]]:WHICH:(auto full no-pid none)' \
'-n+[Copies; auto\: one per CPU that prebind may use \[default\: 1\]]:N|auto:_default' \
'--number=[Copies; auto\: one per CPU that prebind may use \[default\: 1\]]:N|auto:_default' \
'-m+[When a worker is ready\: auto (READY=1, an ack, or it waits on its sockets; else after 1 s), SECONDS (not before), accept (it waits on its sockets), manual or notify (only READY=1 or an ack) \[default\: auto\]]:MODE:_default' \
'--ack-mode=[When a worker is ready\: auto (READY=1, an ack, or it waits on its sockets; else after 1 s), SECONDS (not before), accept (it waits on its sockets), manual or notify (only READY=1 or an ack) \[default\: auto\]]:MODE:_default' \
'--min-ready=[An old worker is told to stop only after its successor was ready so long \[default\: 0\]]:SECONDS:_default' \
'--start-timeout=[Not ready by then in manual or notify mode\: stopped, back-off \[default\: 90\]]:SECONDS:_default' \
'-s+[Base of the back-off\: SECONDS x 1.5^deaths, at most 30 s \[default\: 1\]]:SECONDS:_default' \
'--seconds=[Base of the back-off\: SECONDS x 1.5^deaths, at most 30 s \[default\: 1\]]:SECONDS:_default' \
'-t+[From the stop signal to SIGKILL \[default\: 90; as PID 1\: 8\]]:SECONDS:_default' \
'--signal-timeout=[From the stop signal to SIGKILL \[default\: 90; as PID 1\: 8\]]:SECONDS:_default' \
'--stop-signal=[What asks a worker to stop \[default\: TERM\]]:SIGNAL:_default' \
'--watchdog=[Workers must say WATCHDOG=1 in time, or are replaced]:SECONDS:_default' \
'--max-unacked=[How many may be starting at once \[default\: all at first, a quarter later\]]:N:_default' \
'--max-upgrade-additional=[Processes above the number while workers are replaced \[default\: as --max-unacked\]]:N:_default' \
'--restart=[Whether a worker that ended is started again \[default\: always; as PID 1 with one worker and no socket\: no\]]:WHEN:(always on-failure no)' \
'--user=[Run workers as this user, with its groups]:USER:_default' \
'--group=[Run workers as this group]:GROUP:_default' \
'--chdir=[Directory of the workers, resolved anew at each start]:DIR:_files' \
'--umask=[File mode creation mask of the workers]:OCTAL:_default' \
'*--env=[Set a variable; placeholders are filled in]:K=V:_default' \
'*--env-file=[Read variables from a file at each start; -FILE\: if it exists]:FILE:_default' \
'*--drop-env-var=[Do not pass this variable on]:K:_default' \
'--nice=[Scheduling priority of the workers, -20 to 19; einhorn'\''s OWN\:WORKERS sets prebind'\''s too]:LEVEL:_default' \
'*--limit=[Resource limit of the workers, e.g. nofile=4096\:8192, core=infinity]:NAME=SOFT[:HARD]:_default' \
'--strategy=[rolling\: a quarter of the workers at a time; fleet\: all new ones start at once, the old ones stop when all are ready; canary\: one new worker serves on trial first \[default\: rolling\]]:HOW:(rolling fleet canary)' \
'--bake=[How long a canary serves on trial \[default\: 10\]]:SECONDS:_default' \
'--upgrade-timeout=[A new worker that is not ready by then ends the upgrade, the old ones serve on \[default\: 60\]]:SECONDS:_default' \
'--upgrade-retries=[So many failures of new workers end the upgrade \[default\: 3\]]:N:_default' \
'--reexec-as=[What is run when prebind replaces itself, split as by a shell, with prebind'\''s own arguments behind it; it is to end in exec prebind \[default\: what prebind'\''s path gives then\]]:CMDLINE:_default' \
'--drain-delay=[From the wish to stop prebind, or to run fewer workers, to the stop signal\: a load balancer notices meanwhile \[default\: 0; where a slot of its own goes\: 0.1\]]:SECONDS:_default' \
'*--unit=[Run systemd units\: a .socket or .service file, a folder of them, or a unit'\''s name in systemd'\''s search path; repeatable. See prebind.units(5)]:PATH:_default' \
'--circus=[Run the watchers of a circus.ini on its sockets. See prebind.circus(5)]:FILE:_default' \
'--give-up-after=[So many workers in a row that died before one was ready end prebind, exit code 1; 0\: none do \[default\: 0; as PID 1\: 5\]]:N:_default' \
'*--rewrite=[What workers get in the place of a signal to prebind, e.g. TERM\:QUIT; FROM\:0\: nothing; repeatable]:FROM:TO:_default' \
'*--forward=[Pass this signal to the workers in the place of its meaning for prebind, e.g. USR1; repeatable]:SIGNAL:_default' \
'*--exit-code=[With --restart no\: prebind exits with TO where the command did with FROM (128+N for a signal), e.g. 143=0; repeatable]:FROM=TO:_default' \
'--health-file=[Is there while every service is ready]:FILE:_files' \
'--health-listen=[Answer GET /ready and /live by HTTP, 200 or 503, on PORT or IP\:PORT]:ADDR:_default' \
'-c+[Name of this prebind and its service \[default\: the command'\''s base name\]]:NAME:_default' \
'--command-name=[Name of this prebind and its service \[default\: the command'\''s base name\]]:NAME:_default' \
'-d+[The control socket \[default\: NAME.sock in /run/prebind, \$XDG_RUNTIME_DIR/prebind or a private directory\]]:PATH:_files' \
'--socket-path=[The control socket \[default\: NAME.sock in /run/prebind, \$XDG_RUNTIME_DIR/prebind or a private directory\]]:PATH:_files' \
'-e+[Holds prebind'\''s pid while it runs]:FILE:_files' \
'--pidfile=[Holds prebind'\''s pid while it runs]:FILE:_files' \
'-f+[Locked while prebind runs]:FILE:_files' \
'--lockfile=[Locked while prebind runs]:FILE:_files' \
'-p+[einhorn'\''s\: taken, and the code is loaded by each worker]:PATH:_files' \
'--preload=[einhorn'\''s\: taken, and the code is loaded by each worker]:PATH:_files' \
'--with-state-fd=[Go on from the state on this descriptor\: for prebind'\''s own replacement]:N:_default' \
'--log-format=[How prebind logs on stderr \[default\: text\]]:FORMAT:(text json)' \
'--generate=[Print a manual page or completions and exit]:WHAT:(man units circus servers completions-bash completions-zsh completions-fish)' \
'-g[Give each worker a connection to the control socket, EINHORN_SOCK_FD]' \
'--command-socket-as-fd[Give each worker a connection to the control socket, EINHORN_SOCK_FD]' \
'-k[Workers get USR2 when prebind dies]' \
'--kill-children-on-exit[Workers get USR2 when prebind dies]' \
'--start[Start services at once, not on the first traffic]' \
'--inherit-env[Their environment begins with prebind'\''s, not empty]' \
'--allow-unprotected[Run units without the sandboxing that they ask for]' \
'--subreaper[Adopt the orphans of the workers and end them in the end, as PID 1 does]' \
'--no-control[No control socket]' \
'--gc-before-fork[einhorn'\''s\: taken, and nothing is preloaded]' \
'--upgrade-check[With --with-state-fd\: only say whether the state is understood]' \
'--check[Print what would be run, open nothing, and exit]' \
'--json[With --check\: print it as JSON]' \
'*-q[Log less; repeatable]' \
'*--quiet[Log less; repeatable]' \
'*-v[Log more; repeatable]' \
'*--verbose[Log more; repeatable]' \
'--version[Print the version and exit]' \
'-h[Print this and exit]' \
'--help[Print this and exit]' \
'*::command -- The command to run in N copies, and its arguments:_default' \
&& ret=0
}

(( $+functions[_prebind_commands] )) ||
_prebind_commands() {
    local commands; commands=()
    _describe -t commands 'prebind commands' commands "$@"
}

if [ "$funcstack[1]" = "_prebind" ]; then
    _prebind "$@"
else
    compdef _prebind prebind
fi
