//! One file of tests/real/circus: what is done, a step a line, then the files. Behind a step stands what is known of its
//! result: `= LINE` both have it, `- LINE` only Circus has it, `+ LINE` only prebind has it; a `*` at the end is any rest.
//! Before the steps: `needs root`, `needs mptcp`, and `alone` where Circus cannot run the file, or does what no machine
//! can compare. Lines that begin with `#` say why. The steps (run.rs):
//!
//! report W [N]: so many new reports of W's processes, w. being the report's name. replaced W [N [MOST]]: the ones that
//! were seen are gone, others are there, in so many seconds. none W: how many there are. told W: the signals that they
//! got. over W: nothing of it runs or will. kill W: SIGKILL to each. start, more, reload W [N]: what circusctl and
//! prebindctl are asked for. tcp, unix, udp ADDRESS: a client. stat, read PATH. order W...: who is older. spaced,
//! paused W SECONDS: the least time between starts, between reports. settled: the start is over. stop [LEAST [MOST]]: TERM,
//! and its end in so many seconds. said: what levels of messages were seen.

use crate::harness::TempDir;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// The folder of the cases.
pub(super) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real/circus")
}

/// The names of all cases, in order.
pub(super) fn names() -> Vec<String> {
    let entries = fs::read_dir(folder()).expect("cases").flatten();
    let mut names: Vec<String> =
        entries.filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".case")?.to_owned())).collect();
    names.sort();
    names
}

/// Who has a line.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    Both,
    Circus,
    Prebind,
}

pub(super) struct Step {
    pub(super) words: Vec<String>,
    pub(super) known: Vec<(Whose, String)>,
}

pub(super) struct Case {
    pub(super) needs: Vec<String>,
    pub(super) alone: bool,
    pub(super) steps: Vec<Step>,
    pub(super) files: Vec<(String, String)>,
}

impl Case {
    pub(super) fn read(name: &str) -> Case {
        let text = fs::read_to_string(folder().join(format!("{name}.case"))).expect("a case");
        let mut parts = text.split("--- ");
        let mut case = Case { needs: Vec::new(), alone: false, steps: Vec::new(), files: Vec::new() };
        for line in parts.next().unwrap_or_default().lines().filter(|line| !line.starts_with('#')) {
            case.head(line);
        }
        case.files = parts
            .map(|part| {
                let (name, text) = part.split_once('\n').expect("a name, then the file");
                (name.to_owned(), text.to_owned())
            })
            .collect();
        case
    }

    fn head(&mut self, line: &str) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let whose = match word {
            "alone" => return self.alone = true,
            "needs" => return self.needs.push(rest.to_owned()),
            "=" => Whose::Both,
            "-" => Whose::Circus,
            "+" => Whose::Prebind,
            _ => {
                let words = line.split_whitespace().map(str::to_owned).collect();
                return self.steps.push(Step { words, known: Vec::new() });
            }
        };
        self.steps.last_mut().expect("a step, then what is known of it").known.push((whose, rest.to_owned()));
    }
}

/// Where one run of a case lives: what stands for itself in its files, and what it is there.
#[derive(Clone)]
pub(super) struct Place {
    dir: PathBuf,
    ports: Vec<(String, String)>,
}

impl Place {
    /// Puts the files there, with a directory `out` for the reports of any user.
    pub(super) fn new(case: &Case, dir: &TempDir, probe: &Path) -> Place {
        let wanted = |n: &usize| case.files.iter().any(|(_, text)| text.contains(&format!("@PORT{n}@")));
        let ports = (1..).take_while(wanted).map(|n| (format!("@PORT{n}@"), quiet_port().to_string())).collect();
        let place = Place { dir: dir.path().to_owned(), ports };
        let out = place.dir.join("out");
        fs::create_dir(&out).expect("made");
        fs::set_permissions(&out, PermissionsExt::from_mode(0o1777)).expect("its mode");
        crate::harness::copy(probe, &place.dir.join("probe"));
        fs::write(place.dir.join("input"), "").expect("written");
        for (name, text) in &case.files {
            let path = place.dir.join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            let more = if name == "circus.ini" { END } else { "" };
            fs::write(&path, place.filled(&format!("{text}{more}"))).expect("written");
            let mode = if text.starts_with("#!") { 0o755 } else { 0o644 };
            fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("its mode");
        }
        place
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn dir(&self) -> &str {
        self.dir.to_str().expect("UTF-8")
    }

    /// With what the words stand for.
    pub(super) fn filled(&self, text: &str) -> String {
        let text = text.replace("@DIR@", self.dir());
        self.ports.iter().fold(text, |text, (word, port)| text.replace(word, port))
    }

    /// With the words in the place of what they stand for.
    pub(super) fn plain(&self, text: &str) -> String {
        let text = text.replace(self.dir(), "@DIR@");
        self.ports.iter().fold(text, |text, (word, port)| text.replace(port, word))
    }

    /// Processes that were called with a path in the directory, and still run.
    pub(super) fn processes(&self) -> Vec<i32> {
        let start = format!("{}/", self.dir());
        let of_here =
            |pid: &i32| crate::harness::proc::command_line(*pid).contains(&start) && crate::harness::proc::alive(*pid);
        crate::harness::proc::all().filter(of_here).collect()
    }
}

/// What every circus.ini of a case ends with, for both.
const END: &str = "\n[circus]\nendpoint = ipc://@DIR@/endpoint\npubsub_endpoint = ipc://@DIR@/events\n\
    multicast_endpoint =\ncheck_delay = 0.2\n";

/// A port that nobody listens on, below those that the kernel hands out: none of those that it gives to clients meanwhile.
fn quiet_port() -> u16 {
    const FIRST: u32 = 20_000;
    const NUMBER: u32 = 12_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(181);
    let candidate = || FIRST + start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % NUMBER;
    let free = |address: &str, port| {
        std::net::TcpListener::bind((address, port)).is_ok() && std::net::UdpSocket::bind((address, port)).is_ok()
    };
    let ports = (0..NUMBER).map(|_| candidate() as u16);
    let mut quiet = ports.filter(|port| free("0.0.0.0", *port) && free("::1", *port));
    quiet.next().expect("a port that is free in IPv4 and IPv6")
}
