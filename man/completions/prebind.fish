complete -c prebind -s b -l bind -d 'Bind a socket; repeatable, in the order of the descriptors from 3. ADDR: PORT, HOST:PORT, *:PORT, [V6]:PORT, /path, @abstract, vsock:CID:PORT or fd:N, after tcp: (default), udp:, unix:, unixgram:, seqpacket: or fifo:' -r
complete -c prebind -s l -l backlog -d 'Connections that may wait [default: what the kernel allows]' -r
complete -c prebind -l listen-env -d 'Which of LISTEN_FDS, LISTEN_FDNAMES and LISTEN_PID workers get; auto: no LISTEN_PID where the command names a socket [default: auto]' -r -f -a "auto\t''
full\t''
no-pid\t''
none\t''"
complete -c prebind -s n -l number -d 'Copies; auto: one per CPU that prebind may use [default: 1]' -r
complete -c prebind -s m -l ack-mode -d 'When a worker is ready: auto (READY=1, an ack, or it waits on its sockets; else after 1 s), SECONDS (not before), accept (it waits on its sockets), manual or notify (only READY=1 or an ack) [default: auto]' -r
complete -c prebind -l min-ready -d 'An old worker is told to stop only after its successor was ready so long [default: 0]' -r
complete -c prebind -l start-timeout -d 'Not ready by then in manual or notify mode: stopped, back-off [default: 90]' -r
complete -c prebind -s s -l seconds -d 'Base of the back-off: SECONDS x 1.5^deaths, at most 30 s [default: 1]' -r
complete -c prebind -s t -l signal-timeout -d 'From the stop signal to SIGKILL [default: 90; as PID 1: 8]' -r
complete -c prebind -l stop-signal -d 'What asks a worker to stop [default: TERM]' -r
complete -c prebind -l watchdog -d 'Workers must say WATCHDOG=1 in time, or are replaced' -r
complete -c prebind -l max-unacked -d 'How many may be starting at once [default: all at first, a quarter later]' -r
complete -c prebind -l max-upgrade-additional -d 'Processes above the number while workers are replaced [default: as --max-unacked]' -r
complete -c prebind -l restart -d 'Whether a worker that ended is started again [default: always; as PID 1 with one worker and no socket: no]' -r -f -a "always\t''
on-failure\t''
no\t''"
complete -c prebind -l user -d 'Run workers as this user, with its groups' -r
complete -c prebind -l group -d 'Run workers as this group' -r
complete -c prebind -l chdir -d 'Directory of the workers, resolved anew at each start' -r -F
complete -c prebind -l umask -d 'File mode creation mask of the workers' -r
complete -c prebind -l env -d 'Set a variable; placeholders are filled in' -r
complete -c prebind -l env-file -d 'Read variables from a file at each start; -FILE: if it exists' -r
complete -c prebind -l drop-env-var -d 'Do not pass this variable on' -r
complete -c prebind -l nice -d 'Scheduling priority of the workers, -20 to 19; einhorn\'s OWN:WORKERS sets prebind\'s too' -r
complete -c prebind -l limit -d 'Resource limit of the workers, e.g. nofile=4096:8192, core=infinity' -r
complete -c prebind -l strategy -d 'rolling: a quarter of the workers at a time; fleet: all new ones start at once, the old ones stop when all are ready; canary: one new worker serves on trial first [default: rolling]' -r -f -a "rolling\t''
fleet\t''
canary\t''"
complete -c prebind -l bake -d 'How long a canary serves on trial [default: 10]' -r
complete -c prebind -l upgrade-timeout -d 'A new worker that is not ready by then ends the upgrade, the old ones serve on [default: 60]' -r
complete -c prebind -l upgrade-retries -d 'So many failures of new workers end the upgrade [default: 3]' -r
complete -c prebind -l reexec-as -d 'What is run when prebind replaces itself, split as by a shell, with prebind\'s own arguments behind it; it is to end in exec prebind [default: what prebind\'s path gives then]' -r
complete -c prebind -l drain-delay -d 'From the wish to stop prebind, or to run fewer workers, to the stop signal: a load balancer notices meanwhile [default: 0; where a slot of its own goes: 0.1]' -r
complete -c prebind -l unit -d 'Run systemd units: a .socket or .service file, a folder of them, or a unit\'s name in systemd\'s search path; repeatable. See prebind.units(5)' -r
complete -c prebind -l circus -d 'Run the watchers of a circus.ini on its sockets. See prebind.circus(5)' -r
complete -c prebind -l give-up-after -d 'So many workers in a row that died before one was ready end prebind, exit code 1; 0: none do [default: 0; as PID 1: 5]' -r
complete -c prebind -l rewrite -d 'What workers get in the place of a signal to prebind, e.g. TERM:QUIT; FROM:0: nothing; repeatable' -r
complete -c prebind -l forward -d 'Pass this signal to the workers in the place of its meaning for prebind, e.g. USR1; repeatable' -r
complete -c prebind -l exit-code -d 'With --restart no: prebind exits with TO where the command did with FROM (128+N for a signal), e.g. 143=0; repeatable' -r
complete -c prebind -l health-file -d 'Is there while every service is ready' -r -F
complete -c prebind -l health-listen -d 'Answer GET /ready and /live by HTTP, 200 or 503, on PORT or IP:PORT' -r
complete -c prebind -s c -l command-name -d 'Name of this prebind and its service [default: the command\'s base name]' -r
complete -c prebind -s d -l socket-path -d 'The control socket [default: NAME.sock in /run/prebind, $XDG_RUNTIME_DIR/prebind or a private directory]' -r -F
complete -c prebind -s e -l pidfile -d 'Holds prebind\'s pid while it runs' -r -F
complete -c prebind -s f -l lockfile -d 'Locked while prebind runs' -r -F
complete -c prebind -s p -l preload -d 'einhorn\'s: taken, and the code is loaded by each worker' -r -F
complete -c prebind -l with-state-fd -d 'Go on from the state on this descriptor: for prebind\'s own replacement' -r
complete -c prebind -l log-format -d 'How prebind logs on stderr [default: text]' -r -f -a "text\t''
json\t''"
complete -c prebind -l generate -d 'Print a manual page or completions and exit' -r -f -a "man\t''
units\t''
circus\t''
servers\t''
completions-bash\t''
completions-zsh\t''
completions-fish\t''"
complete -c prebind -s g -l command-socket-as-fd -d 'Give each worker a connection to the control socket, EINHORN_SOCK_FD'
complete -c prebind -s k -l kill-children-on-exit -d 'Workers get USR2 when prebind dies'
complete -c prebind -l start -d 'Start services at once, not on the first traffic'
complete -c prebind -l inherit-env -d 'Their environment begins with prebind\'s, not empty'
complete -c prebind -l allow-unprotected -d 'Run units without the sandboxing that they ask for'
complete -c prebind -l subreaper -d 'Adopt the orphans of the workers and end them in the end, as PID 1 does'
complete -c prebind -l no-control -d 'No control socket'
complete -c prebind -l gc-before-fork -d 'einhorn\'s: taken, and nothing is preloaded'
complete -c prebind -l upgrade-check -d 'With --with-state-fd: only say whether the state is understood'
complete -c prebind -l check -d 'Print what would be run, open nothing, and exit'
complete -c prebind -l json -d 'With --check: print it as JSON'
complete -c prebind -s q -l quiet -d 'Log less; repeatable'
complete -c prebind -s v -l verbose -d 'Log more; repeatable'
complete -c prebind -l version -d 'Print the version and exit'
complete -c prebind -s h -l help -d 'Print this and exit'
