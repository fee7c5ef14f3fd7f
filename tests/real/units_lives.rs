//! How services live and end, by a real systemd and by `prebind --unit`: what each of these units writes down of its
//! starts and its end, how it stands afterwards, and what is left of its processes, is the same.

use crate::harness::{First, Lines, Namespaces, proc, wait_for};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;

/// Writes what it gets down, and lives on. Its child does the same.
const TREE: &str = r#"#!/bin/sh
name=$1 log=/run/out/$1
note() { echo "$2 got $1" >>"$log"; [ "$1" != "$deaf" ] || return 0; exit 0; }
who=${2:-main} deaf=$3
for signal in HUP INT TERM USR1 QUIT; do trap "note $signal $who" $signal; done
if [ "$who" = child ]; then echo up >>"$log"; else "$0" "$name" child $deaf & fi
# A shell that waits hears a signal at once.
while :; do sleep 1000 & wait $!; done
"#;

/// `/bin/sh -c` with what a unit file needs: every `$` twice.
fn shell(line: &str) -> String {
    format!("/bin/sh -c '{}'", line.replace('$', "$$"))
}

struct Life {
    name: String,
    text: String,
}

/// A unit that writes a line at each start, and its result at each end; after three starts it is over.
fn life(name: impl Into<String>, unit: &str, service: &str, start: &str) -> Life {
    let over = shell("echo over $SERVICE_RESULT $EXIT_CODE $EXIT_STATUS >> /run/out/%p");
    let start = match start {
        command if command.starts_with('=') => command[1..].to_owned(),
        line => shell(&format!("echo start >> /run/out/%p; {line}")),
    };
    let text = format!(
        "[Unit]\nStartLimitIntervalSec=60\nStartLimitBurst=3\n{unit}\n[Service]\nRestartSec=10ms\n{service}\n\
         ExecStart={start}\nExecStopPost={over}\n"
    );
    Life { name: name.into(), text }
}

/// Every word of Restart= with every way to end.
fn restarts() -> impl Iterator<Item = Life> {
    const ENDS: [(&str, &str, &str); 8] = [
        ("well", "", "exit 0"),
        ("code", "", "exit 3"),
        ("term", "", "kill -TERM $$"),
        ("pipe", "", "kill -USR1 $$"),
        ("kill", "", "kill -KILL $$"),
        ("late", "Type=notify\nTimeoutStartSec=100ms", "exec sleep 1000"),
        ("hung", "Type=notify\nWatchdogSec=100ms", "exec unit-ready"),
        ("long", "RuntimeMaxSec=500ms", "exec sleep 1000"),
    ];
    let words = ["no", "always", "on-success", "on-failure", "on-abnormal", "on-watchdog", "on-abort"];
    words.into_iter().flat_map(|word| {
        ENDS.into_iter().map(move |(end, service, start)| {
            life(format!("r-{word}-{end}"), "", &format!("Restart={word}\n{service}"), start)
        })
    })
}

/// What else decides how a life goes.
fn policies() -> Vec<Life> {
    let pre = |step: &str, line: &str| {
        let key = step.rsplit('\n').next().expect("a key");
        format!("{step}={}", shell(&format!("echo {key} >> /run/out/%p; {line}")))
    };
    let stays = "=/usr/local/sbin/unit-tree %p";
    let up = "until grep -q up /run/out/%p; do sleep .01; done";
    let mut all = vec![
        life("p-success-code", "", "Restart=on-failure\nSuccessExitStatus=3 SIGUSR1", "exit 3"),
        life("p-success-signal", "", "Restart=on-failure\nSuccessExitStatus=3 SIGUSR1", "kill -USR1 $$"),
        life("p-success-name", "", "Restart=on-failure\nSuccessExitStatus=TEMPFAIL", "exit 75"),
        life("p-prevent", "", "Restart=always\nRestartPreventExitStatus=3 SIGKILL", "exit 3"),
        life("p-prevent-signal", "", "Restart=always\nRestartPreventExitStatus=3 SIGKILL", "kill -KILL $$"),
        life("p-force", "", "Restart=no\nRestartForceExitStatus=3", "exit 3"),
        life("p-force-well", "", "Restart=no\nRestartForceExitStatus=0", "exit 0"),
        life("p-may-fail", "", "Restart=on-failure", &format!("=-{}", shell("echo start >> /run/out/%p; exit 3"))),
        life("p-exec", "", "Type=exec\nRestart=on-failure", "exit 3"),
        life("p-idle", "", "Type=idle\nRestart=on-failure", "exit 3"),
        life("p-no-program", "", "Restart=on-failure", "=/nowhere/at/all"),
        life("p-no-program-exec", "", "Type=exec\nRestart=on-failure", "=/nowhere/at/all"),
        life("p-no-directory", "", "WorkingDirectory=/nowhere\nRestart=on-failure", "exit 0"),
        life("p-no-directory-fine", "", "WorkingDirectory=-/nowhere", "exit 0"),
        life("p-oneshot", "", "Type=oneshot", "exit 0"),
        life("p-oneshot-fails", "", "Type=oneshot", "exit 3"),
        life("p-oneshot-again", "", "Type=oneshot\nRestart=on-failure", "exit 3"),
        life("p-oneshot-remains", "", "Type=oneshot\nRemainAfterExit=yes", "exit 0"),
        life("p-remains", "", "RemainAfterExit=yes", "exit 0"),
        life("p-remains-not", "", "RemainAfterExit=yes", "exit 3"),
        life("p-forking-gone", "", "Type=forking\nRestart=on-failure", "exit 0"),
        life("p-forking-fails", "", "Type=forking\nRestart=on-failure", "exit 3"),
        life("p-forking-late", "", "Type=forking\nTimeoutStartSec=100ms", "exec sleep 1000"),
        life("p-forking", "", "Type=forking", "unit-tree %p & exit 0"),
        life("p-forking-prevent", "", "Type=forking\nRestart=on-failure\nRestartPreventExitStatus=3", "exit 3"),
        life("p-short", "", &pre("ExecStartPost", "sleep .1; echo posted >> /run/out/%p"), "exit 0"),
        life("p-short-fails", "", &pre("ExecStartPost", "sleep .1; echo posted >> /run/out/%p"), "exit 3"),
        life("p-short-stops", "", &pre("ExecStop", "exit 0"), "exit 0"),
        life("p-short-remains", "", &format!("RemainAfterExit=yes\n{}", pre("ExecStartPost", "exit 0")), "exit 0"),
        life("p-exit-type", "", "ExitType=cgroup", "(sleep .1; echo rest >> /run/out/%p) & exit 0"),
        life("p-exit-main", "", "ExitType=main", "(trap \"\" HUP; sleep 1000; echo rest >> /run/out/%p) & exit 0"),
        life("p-abort-late", "", "Type=notify\nTimeoutStartSec=50ms\nTimeoutStartFailureMode=abort", "exec sleep 1000"),
        life("p-kill-late", "", "Type=notify\nTimeoutStartSec=50ms\nTimeoutStartFailureMode=kill", "exec sleep 1000"),
        life("p-interval-old-name", "StartLimitInterval=0\nStartLimitBurst=1", "", "exit 3"),
        life("p-burst-one", "StartLimitBurst=1", "Restart=always", "exit 3"),
        life("p-not-ready", "", "Type=notify\nRestart=on-failure", "exit 0"),
        life("p-main-stays", "", "", stays),
        life("p-post-fails", "", &pre("ExecStartPost", &format!("{up}; exit 4")), stays),
        life(
            "p-post-late",
            "",
            &format!("TimeoutStartSec=1s\n{}", pre("ExecStartPost", &format!("{up}; exec sleep 1000"))),
            stays,
        ),
    ];
    for (name, step, line) in [
        ("pre-fails", "ExecStartPre", "exit 4"),
        ("pre-late", "ExecStartPre", "exec sleep 1000"),
        ("pre-killed", "ExecStartPre", "kill -KILL $$"),
        ("condition-skips", "ExecCondition", "exit 1"),
        ("condition-fails", "ExecCondition", "exit 255"),
        ("condition-killed", "ExecCondition", "kill -KILL $$"),
        ("pre-prevented", "RestartPreventExitStatus=4\nExecStartPre", "exit 4"),
        ("condition-prevented", "RestartPreventExitStatus=255\nExecCondition", "exit 255"),
        ("condition-holds", "ExecCondition", "exit 0"),
    ] {
        let service = format!("Restart=on-failure\nTimeoutStartSec=1s\n{}", pre(step, line));
        all.push(life(format!("p-{name}"), "", &service, "exit 0"));
    }
    all
}

/// What becomes of failures after the end of the main process, and of what it leaves behind.
fn aftermaths() -> Vec<Life> {
    let pre = |step: &str, line: &str| format!("{step}={}", shell(&format!("echo {step} >> /run/out/%p; {line}")));
    let says = |word: &str, rest: &str| format!("systemd-notify --ready; systemd-notify STOPPING=1; {word}; {rest}");
    let notifies = "Type=notify\nNotifyAccess=all\nRestart=on-failure\nTimeoutStopSec=1s";
    let fails = "Restart=on-failure\nTimeoutStopSec=1s";
    vec![
        life("l-two-left", "", "Type=forking", "unit-tree %p & sleep 1000 & exit 0"),
        life("l-stop-fails", "", &format!("{fails}\n{}", pre("ExecStop", "exit 4")), "exit 0"),
        life("l-stop-post-fails", "", &format!("{fails}\nExecStopPost=/bin/false"), "exit 0"),
        life("l-stop-post-late", "", &format!("{fails}\nExecStopPost=/bin/sleep 1000"), "exit 0"),
        life("l-deaf-left", "", fails, "(trap \"\" TERM; exec sleep 1000) & sleep .1; exit 0"),
        life("l-said-stopping", "", notifies, &says("true", "exit 3")),
        life(
            "l-said-stopping-well",
            "",
            &format!("{notifies}\n{}", pre("ExecStop", "exit 0")),
            &says("true", "exit 0"),
        ),
        life("l-said-stopping-hangs", "", notifies, &says("trap \"\" TERM", "exec sleep 1000")),
        life("l-no-environment", "", "Restart=on-failure", "env -i /usr/local/sbin/unit-tree %p & sleep .1; exit 0"),
        life("l-left-by-stop-post", "", "ExecStopPost=/bin/sh -c 'setsid unit-tree %p & sleep .1'", "exit 0"),
    ]
}

/// What stands in a unit file about its streams and itself, seen by a shell.
fn facts() -> Vec<Life> {
    let once = |name: &str, service: &str, line: &str| life(name, "", service, &format!("{line} >> /run/out/%p 2>&1"));
    let data = "StandardInputText=one\\ttwo %p\nStandardInputText=three\nStandardInputData=Zm91cgo=\n";
    let folders = "CacheDirectory=f-modes\nCacheDirectoryMode=0711\nLogsDirectory=f-modes\nLogsDirectoryMode=0701\n\
                   ConfigurationDirectory=f-modes\nConfigurationDirectoryMode=0750\nUMask=0077";
    let modes = "stat -c %%n:%%a $CACHE_DIRECTORY $LOGS_DIRECTORY $CONFIGURATION_DIRECTORY";
    vec![
        once("f-input-text", data, "cat"),
        once("f-input-data", &format!("StandardInput=data\n{data}"), "cat"),
        once("f-input-reset", &format!("{data}StandardInputData=\nStandardInputText=only"), "cat"),
        once("f-personality", "Personality=x86", "uname -m"),
        once("f-modes", folders, modes),
    ]
}

/// Conditions that hold, and that do not.
fn conditions() -> impl Iterator<Item = Life> {
    const LINES: [&str; 30] = [
        "ConditionPathExists=/proc/self",
        "ConditionPathExists=/nowhere",
        "ConditionPathExists=!/nowhere",
        "ConditionPathExistsGlob=/pro?/self",
        "ConditionPathExistsGlob=/proc/none*",
        "ConditionPathIsDirectory=/proc",
        "ConditionPathIsDirectory=/proc/cmdline",
        "ConditionPathIsSymbolicLink=/proc/self",
        "ConditionPathIsSymbolicLink=/proc",
        "ConditionPathIsMountPoint=/proc",
        "ConditionPathIsMountPoint=/usr/bin",
        "ConditionPathIsReadWrite=/run",
        "ConditionPathIsReadWrite=/usr",
        "ConditionDirectoryNotEmpty=/proc",
        "ConditionDirectoryNotEmpty=/proc/cmdline",
        "ConditionFileNotEmpty=/bin/sh",
        "ConditionFileNotEmpty=/proc",
        "ConditionFileIsExecutable=/bin/sh",
        "ConditionFileIsExecutable=/etc/passwd",
        "ConditionUser=root",
        "ConditionUser=nobody",
        "ConditionUser=@system",
        "ConditionGroup=0",
        "ConditionGroup=nogroup",
        "ConditionHost=no-such-host",
        "ConditionArchitecture=native",
        "ConditionArchitecture=ppc64",
        "ConditionPathExists=|/nowhere\nConditionPathExists=|/proc",
        "ConditionPathExists=|/nowhere\nConditionUser=|nobody",
        "ConditionPathExists=/nowhere\nConditionPathExists=\nConditionUser=0",
    ];
    let asserts = ["AssertPathExists=/proc", "AssertUser=root", "AssertFileIsExecutable=/bin/sh"];
    let all = LINES.into_iter().chain(asserts).enumerate();
    all.map(|(n, line)| life(format!("c-{n:02}"), line, "", "exit 0"))
}

/// How what stays is stopped: every word of KillMode=, and what is beside it.
fn stops() -> impl Iterator<Item = Life> {
    const LINES: [(&str, &str, &str); 14] = [
        ("group", "KillMode=control-group", ""),
        ("group-deaf", "KillMode=control-group\nTimeoutStopSec=200ms", " main TERM"),
        ("mixed", "KillMode=mixed", ""),
        ("process", "KillMode=process", ""),
        ("none", "KillMode=none\nTimeoutStopSec=100ms", ""),
        ("hup", "SendSIGHUP=yes\nKillSignal=SIGCONT", ""),
        ("signal", "KillSignal=SIGINT\nTimeoutStopSec=1s", ""),
        ("never-killed", "SendSIGKILL=no\nTimeoutStopSec=100ms\nKillMode=process", " main TERM"),
        ("final", "FinalKillSignal=SIGQUIT\nTimeoutStopSec=100ms", " main TERM"),
        ("restart-signal", "RestartKillSignal=SIGUSR1", ""),
        ("late-abort", "TimeoutStopSec=100ms\nTimeoutStopFailureMode=abort\nTimeoutAbortSec=100ms", " main TERM"),
        ("late-kill", "TimeoutStopSec=100ms\nTimeoutStopFailureMode=kill", " main TERM"),
        ("stop-command", "ExecStop=/bin/sh -c 'echo stop $$MAINPID | tr -d 0-9 >> /run/out/%p'", ""),
        ("stop-late", "TimeoutStopSec=100ms\nExecStop=/bin/sleep 1000", ""),
    ];
    LINES.into_iter().map(|(name, service, words)| {
        life(format!("s-{name}"), "", service, &format!("=/usr/local/sbin/unit-tree %p{words}"))
    })
}

fn lives() -> Vec<Life> {
    restarts().chain(policies()).chain(aftermaths()).chain(facts()).chain(conditions()).chain(stops()).collect()
}

/// What there is to see of each: its log, and how it stands; and when all is stopped, its log and its processes.
type Seen = BTreeMap<String, String>;

fn bring(dir: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let ready = "#!/bin/sh\nsystemd-notify --ready\nexec sleep 1000\n";
    for (name, text) in [("unit-tree", TREE), ("unit-ready", ready)] {
        let path = dir.join("bin").join(name);
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("executable");
    }
}

/// Once every service is over or stays, and what stays has written that it is up.
fn settled(machine: &Namespaces, all: &[Life], mut states: impl FnMut() -> BTreeMap<String, String>) -> Seen {
    let log = |name: &str| std::fs::read_to_string(machine.outside(&format!("/run/out/{name}"))).unwrap_or_default();
    let mut last = String::new();
    let deadline = std::time::Instant::now() + crate::harness::DEADLINE;
    loop {
        let states = states();
        let waits = |life: &&Life| match states.get(&life.name).map_or("over", String::as_str) {
            "active" if life.text.contains("unit-tree %p") => !log(&life.name).contains("up\n"),
            "active" => !life.text.contains("RemainAfterExit=yes"),
            state => !matches!(state, "over" | "failed" | "remains"),
        };
        let Some(life) = all.iter().find(waits) else {
            let state =
                |life: &Life| states.get(&life.name).map_or("over", String::as_str).replace("remains", "active");
            let seen = |life: &Life| {
                let text = log(&life.name);
                let mut lines: Vec<&str> = text.lines().collect();
                if life.text.contains("unit-tree %p") || life.text.contains("ExecStartPost") {
                    // Two processes write.
                    lines.sort_unstable();
                }
                (life.name.clone(), format!("{}\n{}\n", lines.join("\n"), state(life)))
            };
            return all.iter().map(seen).collect();
        };
        let now = format!("{} ({:?})\n{}", life.name, states.get(&life.name), log(&life.name));
        if std::time::Instant::now() > deadline {
            panic!("waited in vain for {now}; before: {last}");
        }
        last = now;
        std::thread::sleep(std::time::Duration::from_millis(150));
    }
}

/// After all was stopped: the logs, their lines in the order of letters where two processes write, and who is left.
fn stopped(machine: &Namespaces, all: &[Life], seen: &mut Seen) {
    let lines: Vec<String> = machine.processes().iter().map(|(pid, _)| proc::command_line(*pid)).collect();
    for life in all.iter().filter(|life| life.text.contains("unit-tree %p")) {
        let text = std::fs::read_to_string(machine.outside(&format!("/run/out/{}", life.name))).unwrap_or_default();
        let mut log: Vec<&str> = text.lines().collect();
        log.sort_unstable();
        // systemd sends a signal more than once to what does not end of it.
        log.dedup();
        let left = |who: &str| {
            lines.iter().any(|line| line.contains("unit-tree") && line.contains(&format!(" {}{who}", life.name)))
        };
        let left = format!("left: child {} any {}", left(" child"), left(""));
        seen.insert(format!("{} stopped", life.name), format!("{}\n{left}\n", log.join("\n")));
    }
}

fn by_systemd(test: &str, all: &[Life]) -> Option<Seen> {
    let prepare = |dir: &Path| {
        bring(dir);
        all.iter().for_each(|life| {
            std::fs::write(dir.join(format!("units/{}.service", life.name)), &life.text).expect("written");
        });
    };
    let machine = Namespaces::new(test, First::Systemd, prepare)?;
    machine.done(&["mkdir", "-p", "/run/out"]);
    let names: Vec<String> = all.iter().map(|life| format!("{}.service", life.name)).collect();
    let words = |first: &[&'static str]| -> Vec<String> {
        first.iter().map(|word| (*word).to_owned()).chain(names.clone()).collect()
    };
    let run = |words: Vec<String>| machine.run(&words.iter().map(String::as_str).collect::<Vec<_>>());
    // It fails where a service of the table does.
    run(words(&["systemctl", "start", "--no-block"]));
    let mut seen = settled(&machine, all, || {
        let text = run(words(&["systemctl", "show", "-p", "Id,ActiveState,SubState,Job"])).stdout;
        text.split("\n\n").filter_map(systemd_state).collect()
    });
    run(words(&["systemctl", "stop"]));
    stopped(&machine, all, &mut seen);
    Some(seen)
}

/// A block of `systemctl show`.
fn systemd_state(block: &str) -> Option<(String, String)> {
    let value = |key: &str| block.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    let state = match (value("ActiveState")?, value("SubState")?, value("Job")) {
        (_, _, Some(job)) if job != "0" && !job.is_empty() => "waits",
        ("inactive", _, _) => "over",
        ("active", "exited", _) => "remains",
        (other, _, _) => other,
    };
    Some((value("Id")?.strip_suffix(".service")?.to_owned(), state.to_owned()))
}

fn by_prebind(test: &str, all: &[Life]) -> Seen {
    let machine = Namespaces::new(test, First::Idle, bring).expect("one more");
    machine.done(&["mkdir", "-p", "/run/out", "/run/lives"]);
    for life in all {
        machine.write(&format!("/run/lives/{}.service", life.name), &life.text);
    }
    let words = ["prebind", "-d", "/run/ctl", "--unit", "/run/lives"];
    let mut child = machine.command(&words).stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("nsenter");
    let lines = Lines::of(child.stderr.take().expect("piped"));
    let mut seen = settled(&machine, all, || {
        let finished = machine.run(&["prebindctl", "-d", "/run/ctl", "status", "--json"]);
        let status: Value = serde_json::from_str(&finished.stdout).unwrap_or_default();
        if status.is_null() {
            assert!(child.try_wait().expect("its status").is_none(), "prebind ended:\n{}", lines.all());
            return all.iter().map(|life| (life.name.clone(), "waits".to_owned())).collect();
        }
        status["services"].as_array().into_iter().flatten().filter_map(prebind_state).collect()
    });
    machine.done(&["prebindctl", "-d", "/run/ctl", "stop"]);
    wait_for("prebind's end", || child.try_wait().expect("its status"));
    stopped(&machine, all, &mut seen);
    seen
}

fn prebind_state(service: &Value) -> Option<(String, String)> {
    let name = service["name"].as_str()?.strip_suffix(".service")?.to_owned();
    let worker = &service["workers"][0]["state"];
    let state = match service["state"].as_str()? {
        "active" if worker == "ready" => "active",
        "active" => "waits",
        other => other,
    };
    Some((name, state.to_owned()))
}

#[test]
fn services_live_and_end_as_under_systemd() {
    let test = "services_live_and_end_as_under_systemd";
    let all = lives();
    let Some(theirs) = by_systemd(test, &all) else { return };
    let ours = by_prebind(test, &all);
    let differ = |(name, theirs): &(&String, &String)| ours.get(*name) != Some(theirs);
    let text: String = theirs
        .iter()
        .filter(differ)
        .map(|(name, theirs)| {
            format!(
                "--- {name}\nsystemd: {}\nprebind: {}\n",
                theirs.replace('\n', " | "),
                ours[name].replace('\n', " | ")
            )
        })
        .collect();
    assert!(text.is_empty(), "\n{text}");
}
