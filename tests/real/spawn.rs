//! Chapter "What a worker finds": descriptors, environment, rights, limits, directory, signals; and how a command
//! that cannot be run is told.

use crate::harness::{Prebind, Setup, TempDir, is_root, prebind_path, probe, proc, wait_for};
use std::collections::BTreeSet;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, symlink};

fn started(options: &[&str], words: &[&str]) -> Prebind {
    let mut all = vec!["-b", "web=127.0.0.1:0"];
    all.extend(options);
    let mut prebind = Setup::probe(&all, words).start();
    prebind.wait_ready();
    prebind
}

#[test]
fn strays_of_the_caller_never_reach_a_worker() {
    let strays: Vec<_> = (0..20).map(|_| std::fs::File::open("/dev/zero").expect("open")).collect();
    let given: Vec<&dyn AsRawFd> = strays.iter().map(|file| file as &dyn AsRawFd).collect();
    let mut prebind =
        Setup::probe(&["-b", "a=127.0.0.1:0", "-b", "b=127.0.0.1:0", "-n", "2"], &[]).descriptors(3, &given).start();
    prebind.wait_ready();
    assert_eq!(probe::numbers(&prebind.probe("a")), [0, 1, 2, 3, 4]);
    for pid in prebind.worker_pids() {
        let targets: Vec<String> = proc::fds(pid).into_iter().skip(3).take(2).map(|(_, target)| target).collect();
        assert!(targets.iter().all(|target| target.starts_with("socket:")), "{targets:?}");
    }
    prebind.stop();
}

#[test]
fn standard_descriptors_that_are_closed_are_nobodys() {
    let closing = ["sh", "-c", "exec \"$0\" \"$@\" <&- >&-"];
    let mut prebind = Setup::probe(&["-b", "web=127.0.0.1:0"], &[]).wrapped(&closing).start();
    prebind.wait_ready();
    let own = proc::fds(prebind.pid());
    let standard: Vec<&str> = own.iter().filter(|(fd, _)| *fd < 2).map(|(_, target)| target.as_str()).collect();
    assert_eq!(standard, ["/dev/null", "/dev/null"], "{own:?}");
    assert_eq!(probe::numbers(&prebind.probe("web")), [0, 1, 2, 3]);
    prebind.stop();
}

#[test]
fn a_reader_that_went_away_kills_nobody() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let ended = std::process::Command::new(prebind_path()).arg("--help").stdout(writer).status().expect("run");
    assert_eq!(ended.code(), Some(0), "{ended}");
}

#[test]
fn exactly_this_environment() {
    let mut prebind = started(&["-n", "1"], &[]);
    let answer = prebind.probe("web");
    let env = probe::environ(&answer);
    let own: BTreeSet<String> = std::fs::read(format!("/proc/{}/environ", prebind.pid()))
        .expect("environ")
        .split(|byte| *byte == 0)
        .filter_map(|word| Some(String::from_utf8_lossy(word).split_once('=')?.0.to_owned()))
        .collect();
    let mut added: BTreeSet<&str> = env.keys().map(String::as_str).filter(|name| !own.contains(*name)).collect();
    added.remove("LISTEN_PIDFDID"); // absent, or right: tests/real/inherit.rs
    let wanted = BTreeSet::from([
        "EINHORN_CHILD_INDEX",
        "EINHORN_FD_0",
        "EINHORN_FD_COUNT",
        "EINHORN_MASTER_PID",
        "EINHORN_SOCK_PATH",
        "LISTEN_FDNAMES",
        "LISTEN_FDS",
        "LISTEN_PID",
        "NOTIFY_SOCKET",
        "PREBIND_GENERATION",
        "PREBIND_SERVICE",
        "PREBIND_SLOT",
    ]);
    assert_eq!(added, wanted);
    let control = prebind.dir.join("ctl.sock");
    let (pid, master) = (answer["pid"].to_string(), prebind.pid().to_string());
    for (name, value) in [
        ("LISTEN_FDS", "1"),
        ("LISTEN_FDNAMES", "web"),
        ("LISTEN_PID", &pid),
        ("EINHORN_FD_COUNT", "1"),
        ("EINHORN_FD_0", "3"),
        ("EINHORN_CHILD_INDEX", "0"),
        ("EINHORN_MASTER_PID", &master),
        ("EINHORN_SOCK_PATH", &control),
        ("PREBIND_SLOT", "0"),
        ("PREBIND_GENERATION", "1"),
        ("PREBIND_SERVICE", "probe"),
    ] {
        assert_eq!(env[name], value, "{name}");
    }
    for name in own {
        assert!(env.contains_key(&name), "{name} is passed on");
    }
    prebind.stop();
}

#[test]
fn einhorn_is_told_families_that_are_not_ipv4() {
    let mut prebind = started(&["-b", "six=[::1]:0"], &[]);
    let env = probe::environ(&prebind.probe("web"));
    assert_eq!((env.get("EINHORN_FD_FAMILY_0"), env["EINHORN_FD_1"].as_str()), (None, "4"));
    assert_eq!(env["EINHORN_FD_FAMILY_1"], "AF_INET6");
    prebind.stop();
}

#[test]
fn listen_env_in_its_four_values() {
    let names = |env: &std::collections::BTreeMap<String, String>| -> Vec<&'static str> {
        ["LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID"].into_iter().filter(|name| env.contains_key(*name)).collect()
    };
    let all = vec!["LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID"];
    for (options, words, wanted) in [
        (vec![], vec![], all.clone()),
        (vec![], vec!["{SOCKET:web}"], all[..2].to_vec()),
        (vec!["--env", "FD={SOCKET:web}"], vec![], all[..2].to_vec()),
        (vec!["--listen-env", "auto"], vec![], all.clone()),
        (vec!["--listen-env", "full"], vec!["{SOCKET:web}"], all.clone()),
        (vec!["--listen-env", "no-pid"], vec![], all[..2].to_vec()),
        (vec!["--listen-env", "none"], vec![], vec![]),
    ] {
        let mut prebind = started(&options, &words);
        let env = probe::environ(&prebind.probe("web"));
        assert_eq!(names(&env), wanted, "{options:?} {words:?}");
        prebind.stop();
    }
}

#[test]
fn placeholders_in_words_and_variables() {
    let words =
        ["{SOCKET:web}", "<SOCKET:web>", "{SOCKET}", "fd={SOCKET:web};", "{ADDR:web}", "{HOST:web}", "{PORT:web}"];
    let mut prebind =
        started(&["--env", "URL=http://{ADDR:web}/{SLOT}"], &[&words[..], &["{SLOT}", "<SLOT>"]].concat());
    let answer = prebind.probe("web");
    let address = prebind.inet("web");
    let (text, port) = (address.to_string(), address.port().to_string());
    let wanted = ["3", "3", "3", "fd=3;", &text, "127.0.0.1", &port, "0", "0"];
    assert_eq!(probe::strings(&answer["argv"])[1..], wanted);
    assert_eq!(probe::environ(&answer)["URL"], format!("http://{text}/0"));
    prebind.stop();
}

#[test]
fn a_path_as_a_placeholder_and_a_unit_name_in_short() {
    let dir = TempDir::new();
    let path = dir.join("a.sock");
    let bind = format!("web.socket={path}");
    let words = ["-b", &bind, "-b", "ear=127.0.0.1:0", "--", probe::path(), "{PATH:web}", "{SOCKET:web.socket}"];
    let mut prebind = Setup::in_dir(dir, &words).start();
    prebind.wait_ready();
    assert_eq!(probe::strings(&prebind.probe("ear")["argv"])[1..], [path, "3".to_owned()]);
    prebind.stop();
}

#[test]
fn slots_and_indexes_of_several() {
    let prebind = started(&["-n", "3"], &["{SLOT}"]);
    let mut seen = BTreeSet::new();
    for pid in prebind.worker_pids() {
        let read = |name| std::fs::read(format!("/proc/{pid}/{name}")).expect("proc");
        let environ = String::from_utf8_lossy(&read("environ")).into_owned();
        let value = |name: &str| {
            environ.split('\0').find_map(|word| word.strip_prefix(name)).map(str::to_owned).expect("variable")
        };
        let argv = String::from_utf8_lossy(&read("cmdline")).into_owned();
        let slot = argv.trim_end_matches('\0').rsplit('\0').next().expect("words").to_owned();
        assert_eq!(value("PREBIND_SLOT="), slot);
        assert_eq!(value("LISTEN_PID="), pid.to_string());
        seen.insert((slot, value("EINHORN_CHILD_INDEX=")));
    }
    assert_eq!(seen, (0..3).map(|n| (n.to_string(), n.to_string())).collect());
    prebind.stop();
}

#[test]
fn variables_from_options_and_files() {
    let dir = TempDir::new();
    let file = dir.join("env");
    std::fs::write(&file, "# a comment\nFROM_FILE=one\nBOTH=file\nQUOTED=\"two words\"\n").expect("write");
    let options = ["-b", "web=127.0.0.1:0", "--env-file", &file, "--env", "BOTH=option", "--drop-env-var", "SECRET"];
    let mut prebind =
        Setup::in_dir(dir, &options).and(&["--", probe::path()]).env("SECRET", "x").env("KEPT", "y").start();
    prebind.wait_ready();
    let env = probe::environ(&prebind.probe("web"));
    for (name, value) in [("FROM_FILE", "one"), ("BOTH", "option"), ("QUOTED", "two words"), ("KEPT", "y")] {
        assert_eq!(env.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert_eq!(env.get("SECRET"), None);
    prebind.stop();
}

#[test]
fn user_and_group_with_all_their_groups() {
    if !is_root("user_and_group_with_all_their_groups") {
        return;
    }
    let daemon = nix::unistd::User::from_name("daemon").expect("look-up").expect("daemon");
    let dir = TempDir::new();
    let worker = dir.join("probe"); // the build directory may be closed to others
    std::fs::copy(probe::path(), &worker).expect("copy");
    let options = ["-b", "web=127.0.0.1:0", "--user", "daemon", "--", &worker];
    let mut prebind = Setup::in_dir(dir, &options).start();
    prebind.wait_ready(); // it says READY=1: the notify socket is reachable for it
    let answer = prebind.probe("web");
    let (uid, gid) = (daemon.uid.as_raw(), daemon.gid.as_raw());
    assert_eq!(answer["uid"], serde_json::json!([uid, uid, uid]));
    assert_eq!(answer["gid"], serde_json::json!([gid, gid, gid]));
    let groups: Vec<u64> = answer["groups"].as_array().expect("groups").iter().filter_map(|g| g.as_u64()).collect();
    assert!(!groups.contains(&0), "root's groups are dropped: {groups:?}");
    assert_eq!(answer["status"]["CapEff"], "0000000000000000");
    prebind.stop();
}

#[test]
fn a_group_alone_and_numbers() {
    if !is_root("a_group_alone_and_numbers") {
        return;
    }
    let dir = TempDir::new();
    let worker = dir.join("probe");
    std::fs::copy(probe::path(), &worker).expect("copy");
    let options = ["-b", "web=127.0.0.1:0", "--user", "4321", "--group", "1234", "--", &worker];
    let mut prebind = Setup::in_dir(dir, &options).start();
    prebind.wait_ready();
    let answer = prebind.probe("web");
    assert_eq!(answer["uid"], serde_json::json!([4321, 4321, 4321]));
    assert_eq!(answer["gid"], serde_json::json!([1234, 1234, 1234]));
    prebind.stop();
}

#[test]
fn limits_umask_and_nice() {
    let options = ["--limit", "nofile=200:300", "--limit", "CORE=0", "--umask", "027", "--nice", "5"];
    let mut prebind = started(&options, &[]);
    let answer = prebind.probe("web");
    assert_eq!(answer["limits"]["nofile"], serde_json::json!([200, 300]));
    assert_eq!(answer["limits"]["core"][0], 0);
    assert_eq!((&answer["umask"], &answer["nice"]), (&0o027.into(), &5.into()));
    prebind.stop();
}

#[test]
fn its_own_process_group_and_clean_signals() {
    let hook = || {
        // A careless caller: signals blocked and ignored, which exec passes on.
        unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&mut set);
            libc::sigdelset(&mut set, libc::SIGCHLD);
            libc::sigprocmask(libc::SIG_SETMASK, &set, std::ptr::null_mut());
            libc::signal(libc::SIGPIPE, libc::SIG_IGN);
            libc::signal(libc::SIGUSR1, libc::SIG_IGN);
        }
        Ok(())
    };
    let mut prebind = Setup::probe(&["-b", "web=127.0.0.1:0"], &[]).hook(hook).start();
    prebind.wait_ready();
    let answer = prebind.probe("web");
    assert_eq!(answer["pgid"], answer["pid"]);
    assert_eq!(answer["ppid"], prebind.pid());
    for field in ["SigBlk", "SigIgn", "SigCgt"] {
        let text = answer["status"][field].as_str().expect("a mask");
        // 32 and 33 belong to the probe's own C library.
        let mask = u64::from_str_radix(text, 16).expect("hexadecimal") & !(0b11 << 31);
        assert_eq!(mask, 0, "{field}");
    }
    prebind.stop();
}

#[test]
fn a_releases_link_is_followed_anew_at_each_spawn() {
    let dir = TempDir::new();
    let (one, two, current) = (dir.join("one"), dir.join("two"), dir.join("current"));
    for release in [&one, &two] {
        std::fs::create_dir(release).expect("mkdir");
        std::fs::copy(probe::path(), format!("{release}/probe")).expect("copy");
    }
    symlink(&one, &current).expect("link");
    let options = ["-b", "web=127.0.0.1:0", "--chdir", &current, "--", "./probe"];
    let mut prebind = Setup::in_dir(dir, &options).start();
    prebind.wait_ready();
    let answer = prebind.probe("web");
    assert_eq!(answer["cwd"], one.as_str());
    std::fs::remove_file(&current).expect("unlink");
    symlink(&two, &current).expect("link");
    let old = answer["pid"].as_i64().expect("pid") as i32;
    proc::kill(old, libc::SIGKILL);
    wait_for("a successor", || prebind.worker_pids().first().copied().filter(|pid| *pid != old));
    prebind.wait_ready();
    let answer = prebind.probe("web");
    assert_eq!(answer["cwd"], two.as_str());
    prebind.stop();
}

#[test]
fn the_logical_start_directory_is_kept() {
    let dir = TempDir::new();
    let (release, current) = (dir.join("one"), dir.join("current"));
    std::fs::create_dir(&release).expect("mkdir");
    symlink(&release, &current).expect("link");
    let options = ["-b", "web=127.0.0.1:0", "--", probe::path()];
    let mut prebind = Setup::in_dir(dir, &options).cwd(&current).env("PWD", &current).start();
    prebind.wait_ready();
    let answer = prebind.probe("web");
    assert_eq!(answer["cwd"], release.as_str(), "where the link leads to now");
    prebind.stop();
}

#[test]
fn a_command_that_is_not_there() {
    let dir = TempDir::new();
    std::fs::copy(probe::path(), dir.join("gunicorn")).expect("copy");
    let path = dir.path().to_str().expect("UTF-8").to_owned();
    Setup::in_dir(dir, &["-b", "web=127.0.0.1:0", "-n", "2", "--", "gunicron"])
        .env("PATH", &path)
        .finish()
        .code(111)
        .says(&["cannot run 'gunicron'", "no such file", "did you mean gunicorn?"]);
}

#[test]
fn a_command_that_is_not_executable() {
    let dir = TempDir::new();
    let file = dir.join("script");
    std::fs::write(&file, "#!/bin/sh\n").expect("write");
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).expect("chmod");
    Setup::in_dir(dir, &["--", &file]).finish().code(111).says(&["cannot run", &file, "permission denied"]);
}

#[test]
fn a_directory_that_is_not_there() {
    Setup::new(&["--chdir", "/no/such/place", "--", "true"])
        .finish()
        .code(111)
        .says(&["/no/such/place", "no such file"]);
}

#[test]
fn two_thousand_workers_get_the_callers_limit_of_256() {
    let hook = || {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        unsafe {
            libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
            limit.rlim_cur = 256;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
        Ok(())
    };
    let mut prebind = Setup::new(&["-n", "2000", "--", "sleep", "1000"]).hook(hook).start();
    let pids = prebind.wait_number(2000);
    for pid in [pids[0], pids[1999]] {
        assert_eq!(proc::nofile(pid).map(|(soft, _)| soft), Some(256));
        let numbers: Vec<i32> = proc::fds(pid).into_iter().map(|(number, _)| number).collect();
        assert_eq!(numbers, [0, 1, 2]);
    }
    prebind.stop();
}
