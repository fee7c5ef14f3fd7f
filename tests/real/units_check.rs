//! Chapter "systemd's units": what `prebind --check --unit` makes of real files, and what it says of them.

use crate::harness::{Finished, Setup, TempDir, free_port, probe};
use serde_json::Value;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::Path;

/// A folder with these files, which may lie in folders of their own.
fn folder(files: &[(&str, &str)]) -> TempDir {
    let dir = TempDir::new();
    for (name, text) in files {
        let path = dir.join(name);
        fs::create_dir_all(Path::new(&path).parent().expect("a parent")).expect("mkdir");
        fs::write(&path, text).expect("write");
    }
    dir
}

/// With that folder as the only search path.
fn check(dir: TempDir, words: &[&str]) -> Finished {
    let path = dir.path().to_str().expect("UTF-8").to_string();
    let cwd = dir.path().to_owned();
    Setup::in_dir(dir, &["--check"]).and(words).cwd(cwd).env("SYSTEMD_UNIT_PATH", &path).finish()
}

fn json(dir: TempDir, words: &[&str]) -> Value {
    let finished = check(dir, &[words, &["--json"]].concat());
    serde_json::from_str(&finished.code(0).stdout).unwrap_or_else(|why| panic!("{why}: {finished:?}"))
}

const PAIR: [(&str, &str); 2] = [
    ("web.socket", "[Unit]\nDescription=Web\n\n[Socket]\nListenStream=127.0.0.1:8080\nListenStream=%t/web.sock\n"),
    (
        "web.service",
        "[Unit]\nAfter=network.target\n[Service]\nType=notify\nExecStartPre=-/bin/true %n\nExecStart=/usr/sbin/web --name %p $OPTS\n\
         User=www-data\nEnvironment=A=1\nRuntimeDirectory=web\nX-Prebind-Number=4\nTimeoutStopSec=1min\n",
    ),
];

#[test]
fn a_pair() {
    let plan = json(folder(&PAIR), &["--unit", "web.socket"]);
    let service = &plan["services"][0];
    assert_eq!(service["name"], "web.service");
    assert_eq!((&service["number"], &service["user"], &service["chdir"]), (&4.into(), &"www-data".into(), &"/".into()));
    assert_eq!(service["command"], serde_json::json!(["/usr/sbin/web", "--name", "web", "$OPTS"]));
    assert_eq!(service["sockets"], serde_json::json!(["web.socket", "web.socket"]));
    assert_eq!(service["unit"]["start"], "on traffic");
    assert_eq!(service["unit"]["steps"][0]["command"], serde_json::json!(["/bin/true", "web.service"]));
    assert_eq!(service["stop_timeout_seconds"], 60.0);
    assert_eq!(plan["sockets"][0]["origin"], "web.socket:5");
    assert!(plan["sockets"][1]["address"].as_str().expect("text").ends_with("/web.sock"));
    let remarks = plan["remarks"].as_array().expect("remarks");
    assert!(remarks.iter().any(|one| one == "web.service:2: means nothing here: After"), "{remarks:?}");
    let text = check(folder(&PAIR), &["--unit", "./web.service", "-n", "2"]);
    for word in
        ["service web.service: 2 workers", "at once, then on traffic", "ExecStartPre", "fd 3", "fd 4", "/web 0755"]
    {
        assert!(text.code(0).stdout.contains(word), "'{word}' is missing in {}", text.stdout);
    }
}

#[test]
fn a_folder_with_drop_ins_templates_masks_and_links() {
    let dir = folder(&[
        ("units/a.service", "[Service]\nExecStart=/bin/a\n"),
        ("units/a.socket", "[Socket]\nListenStream=1\n"),
        ("units/a.socket.d/10.conf", "[Socket]\nListenStream=\nListenStream=2\n"),
        ("units/b.service", "[Service]\nExecStart=/bin/b\n"),
        ("units/c.socket", "[Socket]\nListenStream=@c\nAccept=yes\n"),
        ("units/c@.service", "[Service]\nExecStart=-/bin/c %i\nStandardInput=socket\n"),
        ("units/service.d/all.conf", "[Service]\nNice=5\n"),
        ("b.service.d/own.conf", "[Service]\nUMask=0077\n"),
    ]);
    symlink("/dev/null", dir.join("units/m.service")).expect("symlink");
    symlink("b.service", dir.join("units/alias.service")).expect("symlink");
    let plan = json(dir, &["--unit", "units"]);
    let services = plan["services"].as_array().expect("services");
    let shown: Vec<String> = services.iter().map(|one| format!("{} {}", one["name"], one["unit"]["start"])).collect();
    let expected = [
        "\"a.service\" \"on traffic\"",
        "\"b.service\" \"at once\"",
        "\"c@.service\" \"for each connection, at most 64\"",
    ];
    assert_eq!(shown, expected);
    assert_eq!(plan["sockets"][0]["address"], "[::]:2");
    assert!(services.iter().all(|one| one["nice"] == 5), "{services:?}");
    assert_eq!(services[1]["umask"], "077");
    assert_eq!(services[2]["command"], serde_json::json!(["/bin/c", "%i"]));
    assert_eq!(services[2]["unit"]["streams"][1], "socket");
    assert!(plan["remarks"].to_string().contains("m.service is masked"), "{}", plan["remarks"]);
}

#[test]
fn instances_and_order() {
    let plan = json(
        folder(&[
            ("foo@.service", "[Service]\nExecStart=/bin/foo %i %I\nSockets=b.socket\nWorkingDirectory=-/srv/%i\n"),
            ("foo@x-y.socket", "[Socket]\nListenStream=10\n"),
            ("b.socket", "[Socket]\nListenStream=11\nService=foo@x-y.service\nFileDescriptorName=bee\n"),
            ("a.socket", "[Socket]\nListenStream=12\nService=foo@x-y.service\n"),
        ]),
        &["--unit", "foo@x-y.service", "--unit=a.socket"],
    );
    let service = &plan["services"][0];
    assert_eq!(service["command"], serde_json::json!(["/bin/foo", "x-y", "x/y"]));
    assert_eq!(service["chdir"], "/srv/x-y");
    assert_eq!(service["sockets"], serde_json::json!(["bee", "foo@x-y.socket", "a.socket"]));
}

/// Each oddity of a unit file with what is said of it; none of them stops anything.
#[test]
fn oddities_are_said_with_file_and_line() {
    let text = "Early=1\n[Unit\nLost=1\n[Unit]\nConditionFirmware=uefi\n[Servce]\nA=1\n[Service]\nExecStart=/bin/x\nexecstart=/bin/y\n\
                Nonsense=1\n=2\nno assignment\nNice=99\nLimitNOFILE=9:8\nEnvironment=A=1 B\nSlice=x.slice\nStandardOutput=kmsg\n\
                Type=dbus\nRestart=perhaps\nUMask=9\nListenStream=1\nX-Other=1\nX-Prebind-Nubmer=2\nRestartMode=debug\n[Install]\nWantedBy=x\n";
    let finished = check(folder(&[("odd.service", text)]), &["--unit", "odd.service"]);
    for said in [
        ":1: Early stands before any section",
        ":2: '[Unit' is no section header",
        ":5: ConditionFirmware=uefi cannot be told without systemd: taken as met",
        ":7: section [Servce] means nothing in a .service",
        ":10: unknown key execstart, did you mean ExecStart?",
        ":11: unknown key Nonsense: ignored",
        ":12: no key before '='",
        ":13: no '=' in 'no assignment'",
        ":14: Nice: 99 is not a number from -20 to 19: ignored",
        ":15: LimitNOFILE: '9:8': the soft limit is above the hard one: ignored",
        ":16: Environment: 'B' is not NAME=VALUE: ignored",
        ":17: Slice= is not done without systemd: left out",
        ":18: StandardOutput=kmsg: prebind's own is taken instead",
        ":19: Type: Type=dbus needs a message bus: ignored",
        ":20: Restart: 'perhaps' is none of systemd's words for it: ignored",
        ":21: UMask: '9' is no octal mode: ignored",
        ":22: unknown key ListenStream, it belongs to [Socket]: ignored",
        ":24: unknown key X-Prebind-Nubmer, did you mean X-Prebind-Number?: ignored",
        ":25: RestartMode: 'debug': not supported: ignored",
    ] {
        let line = format!("remark: odd.service{said}");
        assert!(finished.code(0).stdout.contains(&line), "'{line}' is missing in {}", finished.stdout);
    }
    assert!(!finished.stdout.contains("X-Other") && !finished.stdout.contains("WantedBy"), "{}", finished.stdout);
}

#[test]
fn protection_is_refused_or_listed() {
    let text = "[Service]\nExecStart=/bin/x\nProtectSystem=strict\nPrivateTmp=yes\nPrivateDevices=no\n";
    let files = [("p.service", text)];
    let refused = check(folder(&files), &["--unit", "p.service"]);
    refused.code(100).says(&["p.service:3", "ProtectSystem (line 3), PrivateTmp (line 4)", "--allow-unprotected"]);
    assert!(!refused.stderr.contains("PrivateDevices"), "{}", refused.stderr);
    let allowed = check(folder(&files), &["--unit", "p.service", "--allow-unprotected"]);
    for line in [
        "p.service:3: p.service runs without ProtectSystem=strict",
        "p.service:4: p.service runs without PrivateTmp=yes",
    ] {
        assert!(allowed.code(0).stdout.contains(line), "{}", allowed.stdout);
    }
}

/// What cannot be a unit's name is said; what is hidden is not meant.
#[test]
fn names_in_a_folder() {
    let files = [("a.service", "[Service]\nExecStart=/bin/a\n"), ("a b.service", "x"), (".b.service", "x")];
    let dir = folder(&files);
    let path = dir.path().display().to_string();
    let finished = check(dir, &["--unit", &path]);
    assert!(finished.code(0).stdout.contains("/a b.service is left out: "), "{}", finished.stdout);
    assert!(!finished.stdout.contains(".b.service"), "{}", finished.stdout);
}

/// A user that is not there is one unit's failure, and said with its name.
#[test]
fn an_unknown_user_fails_its_unit_alone() {
    let good = format!("[Service]\nExecStart={} drain\n", probe::path());
    let files = [("good.service", good.as_str()), ("bad.service", "[Service]\nExecStart=/bin/true\nGroup=nogroupp\n")];
    let dir = folder(&files);
    let path = dir.path().display().to_string();
    let mut prebind = Setup::in_dir(dir, &["--unit", &path]).start();
    prebind.lines.expect(&["bad.service", "no such group 'nogroupp'"]);
    prebind.wait_status("one fails, one serves", |status| {
        let state = |n: usize| status["services"][n]["state"].as_str();
        (state(0) == Some("failed") && state(1) == Some("active")).then_some(())
    });
    prebind.stop();
}

#[test]
fn problems_come_all_at_once() {
    let files = [
        ("web.socket", "[Socket]\nListenStream=80\nService=wbe.service\n"),
        ("web.service", "[Service]\nExecStart=/bin/x 'open\nUser=a:b\n"),
        ("none.socket", "[Socket]\nListenStream=localhost:80\n"),
    ];
    let words = ["--unit", "web.socket", "--unit", "web.service", "--unit", "none.socket", "--unit", "gone.service"];
    check(folder(&files), &words).code(100).says(&[
        "web.socket:3: its service wbe.service is not found (did you mean web.service?)",
        "web.service:2: '/bin/x 'open' is no command: a ' is left open",
        "web.service:3: User: 'a:b' is no name",
        "none.socket:1: none.socket: it has no Listen setting",
        "unit gone.service is not found",
    ]);
    let json = check(folder(&files), &["--unit", "web.socket", "--json"]);
    let problems: Value = serde_json::from_str(&json.code(100).stdout).expect("JSON");
    assert!(problems["problems"][0]["origin"].as_str().is_some_and(|at| at.ends_with("web.socket:3")), "{problems}");
}

#[test]
fn usage_errors_name_the_key() {
    for (words, said) in [
        (&["--unit", "web.socket", "--user", "x"][..], "User="),
        (&["--unit", "web.socket", "-b", "80"], "ListenStream="),
        (&["--unit", "web.socket", "--", "app"], "ExecStart="),
        (&["--start", "--", "app"], "--unit"),
    ] {
        Setup::new(words).finish().code(2).says(&[said]);
    }
}

#[test]
fn conditions_are_looked_at() {
    let files = [
        ("a.service", "[Unit]\nConditionPathExists=/nowhere/at/all\n[Service]\nExecStart=/bin/a\n"),
        ("b.service", "[Unit]\nConditionPathIsDirectory=|/nowhere\nConditionUser=|%U\n[Service]\nExecStart=/bin/b\n"),
        ("c.service", "[Unit]\nAssertPathExistsGlob=/pro?/none*\n[Service]\nExecStart=/bin/c\n"),
    ];
    let plan = json(folder(&files), &["--unit", "a.service", "--unit", "b.service"]);
    assert_eq!(plan["services"].as_array().map(Vec::len), Some(1));
    assert_eq!(plan["services"][0]["name"], "b.service");
    assert!(
        plan["remarks"]
            .to_string()
            .contains("a.service:2: ConditionPathExists=/nowhere/at/all is not met: a.service is skipped")
    );
    let why = "a.service:2: ConditionPathExists=/nowhere/at/all is not met: a.service is skipped";
    check(folder(&files), &["--unit", "a.service"]).code(100).says(&[why, "nothing is left to run"]);
    check(folder(&files), &["--unit", "c.service"]).code(100).says(&["c.service:2: AssertPathExistsGlob="]);
}

/// Units in the manner of those that daemons ship: a special device, netlink, three sockets of one service, standard input.
#[test]
fn what_daemons_ship() {
    let files = [
        ("rfkill.socket", "[Socket]\nListenSpecial=/dev/rfkill\nWritable=yes\n"),
        ("rfkill.service", "[Service]\nType=notify\nExecStart=/lib/rfkill\nTimeoutSec=90s\n"),
        ("net.socket", "[Socket]\nReceiveBuffer=128M\nListenNetlink=route 1361\nPassPacketInfo=yes\n"),
        (
            "net.service",
            "[Service]\nType=notify-reload\nExecStart=!!/lib/net\nCapabilityBoundingSet=CAP_NET_ADMIN\nAmbientCapabilities=CAP_NET_ADMIN\nFileDescriptorStoreMax=512\nWatchdogSec=3min\nRestartKillSignal=SIGUSR2\nUser=systemd-network\n",
        ),
        (
            "virtd.socket",
            "[Socket]\nListenStream=/run/virt/sock\nService=virtd.service\nSocketMode=0666\nRemoveOnStop=yes\n[Install]\nAlso=virtd-ro.socket\n",
        ),
        (
            "virtd-ro.socket",
            "[Unit]\nBindsTo=virtd.socket\nAfter=virtd.socket\n[Socket]\nListenStream=/run/virt/sock-ro\nService=virtd.service\n",
        ),
        (
            "virtd.service",
            "[Unit]\nRequires=virtd.socket\nWants=virtd-ro.socket\n[Service]\nType=notify\nEnvironmentFile=-/etc/default/virtd\nExecStart=/usr/sbin/virtd $ARGS\nExecReload=/bin/kill -HUP $MAINPID\nKillMode=process\nRestart=on-failure\nLimitNOFILE=8192\nTasksMax=32768\nOOMScoreAdjust=-999\n",
        ),
        (
            "cgi.socket",
            "[Socket]\nListenStream=/run/cgi.socket\nSocketUser=www-data\nSocketGroup=www-data\nSocketMode=0660\n",
        ),
        (
            "cgi.service",
            "[Service]\nExecStart=/usr/sbin/cgi -f\nUser=www-data\nGroup=www-data\nStandardInput=socket\nEnvironment=DAEMON_OPTS=-f\n",
        ),
        ("sshd.socket", "[Socket]\nListenStream=22\nAccept=yes\nMaxConnectionsPerSource=5\n"),
        (
            "sshd@.service",
            "[Service]\nEnvironmentFile=-/etc/default/ssh\nExecStart=-/usr/sbin/sshd -i $SSHD_OPTS\nStandardInput=socket\nRuntimeDirectory=sshd\nRuntimeDirectoryPreserve=yes\nRuntimeDirectoryMode=0755\n",
        ),
        (
            "log.socket",
            "[Socket]\nListenDatagram=/run/log/dev\nSymlinks=/run/log/link\nPassCredentials=yes\nTimestamping=us\nSocketMode=0666\n",
        ),
        ("log.service", "[Service]\nType=forking\nPIDFile=log.pid\nExecStart=/sbin/log\nIgnoreSIGPIPE=no\n"),
    ];
    let words = ["rfkill.socket", "net.socket", "virtd.service", "cgi.socket", "sshd.socket", "log.socket"];
    let words: Vec<&str> = words.iter().flat_map(|word| ["--unit", word]).collect();
    let plan = json(folder(&files), &words);
    let services = plan["services"].as_array().expect("services");
    let shown: Vec<String> = services.iter().map(|one| format!("{} {}", one["name"], one["sockets"])).collect();
    assert_eq!(
        shown,
        [
            "\"rfkill.service\" [\"rfkill.socket\"]",
            "\"net.service\" [\"net.socket\"]",
            "\"virtd.service\" [\"virtd.socket\",\"virtd-ro.socket\"]",
            "\"cgi.service\" [\"cgi.socket\"]",
            "\"sshd@.service\" [\"connection\"]",
            "\"log.service\" [\"log.socket\"]",
        ]
    );
    let kinds: Vec<&Value> = plan["sockets"].as_array().expect("sockets").iter().map(|one| &one["kind"]).collect();
    assert_eq!(kinds, ["special", "netlink", "unix", "unix", "unix", "tcp", "unixgram"]);
    let remarks = plan["remarks"].to_string();
    assert!(remarks.contains("virtd.service:12: TasksMax= is not done without systemd"), "{remarks}");
}

/// HUP reads the same words again, by the same way; conditions are for what does not run yet.
#[test]
fn hup_reads_the_units_anew() {
    let (first, second) = (free_port(), free_port());
    let socket = format!("[Socket]\nListenStream=127.0.0.1:{first}\n");
    let dir = folder(&[("web.socket", &socket)]);
    let flag = dir.join("flag");
    let service = |more: &str| {
        let probe = probe::path();
        format!("[Unit]\nConditionPathExists=!{flag}\n[Service]\nExecStart={probe} drain\nSlice=x.slice\n{more}")
    };
    let (unit, listens) = (dir.join("web.service"), dir.join("web.socket"));
    fs::write(&unit, service("")).expect("write");
    let cwd = dir.path().to_owned();
    let mut prebind = Setup::in_dir(dir, &["--unit", "web.service"]).cwd(cwd).start();
    prebind.lines.expect(&["web.service:5", "Slice= is not done without systemd"]);
    let status = prebind.wait_ready();
    assert_eq!(status["services"][0]["name"], "web.service");
    let found = probe::environ(&prebind.probe("web.socket"));
    assert_eq!(found.get("LISTEN_FDNAMES").map(String::as_str), Some("web.socket"));

    fs::write(&flag, "").expect("write");
    fs::write(&unit, service("X-Prebind-Number=2\n")).expect("write");
    fs::write(&listens, format!("{socket}ListenStream=127.0.0.1:{second}\n")).expect("write");
    prebind.signal(libc::SIGHUP);
    prebind.wait_status("two workers of the next generation", |status| {
        let service = &status["services"][0];
        (service["ready"] == 2 && service["generation"] == 2 && service["workers"].as_array()?.len() == 2).then_some(())
    });
    assert_eq!(prebind.status()["sockets"].as_array().map(Vec::len), Some(2));

    fs::write(&unit, service("User=a:b\n")).expect("write");
    prebind.signal(libc::SIGHUP);
    prebind.lines.expect(&["web.service:6", "'a:b' is no name"]);
    assert_eq!(prebind.status()["services"][0]["generation"], 2, "a wrong unit changes nothing");
    prebind.stop();
}

#[test]
fn the_control_socket_has_the_name_of_the_unit() {
    let stem = format!("unit-{}", std::process::id());
    let text = format!("[Service]\nExecStart={} drain\n", probe::path());
    let dir = folder(&[(&format!("{stem}.service"), &text)]);
    let unit = dir.join(&format!("{stem}.service"));
    let mut prebind = Setup::in_dir(dir, &["--unit", &unit]).no_default_control().start();
    prebind.wait_named(&stem, "ready");
    prebind.signal(libc::SIGTERM);
    assert_eq!(prebind.wait_exit().code(), Some(0));
}

/// Sockets that somebody passes are matched with the units' by name; without any they are nobody's.
#[test]
fn inherited_sockets_are_the_units() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = taken.local_addr().expect("address").port();
    let files = |socket: &str| {
        let service = format!("[Service]\nExecStart={} drain\n", probe::path());
        folder(&[("web.service", &service), ("web.socket", socket)])
    };
    let dir = files(&format!("[Socket]\nListenStream=127.0.0.1:{port}\n"));
    let unit = dir.join("web.service");
    let mut prebind = Setup::in_dir(dir, &["--unit", &unit]).activated(&[&taken], "web.socket").start();
    let status = prebind.wait_ready();
    assert_eq!(status["sockets"][0]["inherited"], true, "{status}");
    prebind.stop();
    let dir = files("[Socket]\nListenStream=127.0.0.1:1\nService=other.service\n");
    let unit = dir.join("web.service");
    let refused = Setup::in_dir(dir, &["--unit", &unit]).activated(&[&taken], "web.socket").finish();
    refused.code(100).says(&["inherited socket 'web.socket', and no unit has a socket"]);
}

/// The units that this machine has: whatever they are, all is said and nothing panics.
#[test]
fn every_unit_of_this_machine() {
    for folder in ["/usr/lib/systemd/system", "/lib/systemd/system", "/etc/systemd/system"] {
        let names =
            fs::read_dir(folder).into_iter().flatten().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let units: Vec<String> = names.filter(|name| name.ends_with(".service") || name.ends_with(".socket")).collect();
        for unit in units {
            let path = format!("{folder}/{}", unit.replace("@.", "@x."));
            let finished = Setup::new(&["--check", "--allow-unprotected", "--unit", &path]).finish();
            let code = finished.status.code();
            assert!(matches!(code, Some(0 | 100)), "{path}: {finished:?}");
            assert!(code == Some(0) || finished.stderr.starts_with("prebind: "), "{path}: {finished:?}");
        }
        let whole = Setup::new(&["--check", "--json", "--unit", folder]).finish();
        assert!(matches!(whole.status.code(), Some(0 | 100)), "{whole:?}");
        assert!(serde_json::from_str::<Value>(&whole.stdout).is_ok(), "{whole:?}");
    }
}
