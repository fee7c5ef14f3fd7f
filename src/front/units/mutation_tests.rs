use super::find::{Folders, Found};
use super::*;
use crate::front::mutation::{Mutator, names_a_line};
use crate::plan::{Origin, ServiceSpec};
use std::cell::RefCell;

const FILES: [(&str, &str); 9] = [
    (
        "/u/a-b@c.socket",
        "[Unit]\nConditionPathExists=|!/gone\n[Socket]\nListenStream=@%p/x\nListenStream=[::1]:80\nListenFIFO=%t/a\\\n b\nSymlinks=/l1 \"/l 2\"\n\
         KeepAliveTimeSec=1min 30s\nReceiveBuffer=1.5K\nMark=0x10\nFileDescriptorName=%j%I%%\n\
         TriggerLimitIntervalSec=2M\nListenNetlink=route 1\nListenMessageQueue=/q\nService=a-b@c.service\n",
    ),
    (
        "/u/a-b@.service",
        "[Unit]\nWants=d.socket e.socket\nStartLimitBurst=3\n[Service]\nType=oneshot\nExecStart=-@/bin/sh \"a b\" \\u00e9 ; :/bin/x $Y ${Z}\n\
         Environment=\"A=%i b\" B='c'\nCPUAffinity=1-3,5\nLimitNOFILE=1K:2M\nCapabilityBoundingSet=~CAP_CHOWN\n\
         StandardInputData=QUJD\nOpenFile=/a:b:read-only\nRuntimeDirectory=x/y:z\nUser=%p\nSockets=e.socket\n",
    ),
    ("/u/d.socket", "[Socket]\nListenStream=127.0.0.1:1\nAccept=yes\nMaxConnections=5\n"),
    ("/u/d@.service", "[Service]\nExecStart=/bin/x %i %n\nEnvironment=A=%f\nStandardInput=socket\nPrivateTmp=yes\n"),
    ("/u/a-b@.service.d/1.conf", "[Service]\nExecStart=\nExecStart=/bin/y\nSuccessExitStatus=1 SIGUSR1 x\n"),
    ("/u/socket.d/2.conf", "[Socket]\nSocketMode=0660\n"),
    ("/u/e.socket", "[Socket]\nListenStream=3\nReusePort=yes\n"),
    ("/u/e.service", "[Service]\nExecStart=/bin/e\nKillMode=mixed\n"),
    ("/u/-.slice", "[Slice]\n"),
];

/// Files whose bytes are exchanged, taken out and doubled.
struct Mutated {
    files: Vec<(&'static str, Vec<u8>)>,
    asked: RefCell<u32>,
}

impl Folders for Mutated {
    fn read(&self, path: &str) -> Option<Found> {
        *self.asked.borrow_mut() += 1;
        let (_, bytes) = self.files.iter().find(|(known, _)| *known == path)?;
        Some(if bytes.is_empty() { Found::Masked } else { Found::File(bytes.clone()) })
    }

    fn list(&self, folder: &str) -> Vec<String> {
        let inside = |path: &str| path.strip_prefix(folder)?.strip_prefix('/').map(str::to_string);
        self.files.iter().filter_map(|(path, _)| inside(path)).filter(|name| !name.contains('/')).collect()
    }

    fn is_folder(&self, path: &str) -> bool {
        path == "/u"
    }

    fn target(&self, _: &str) -> Option<String> {
        None
    }
}

/// Nothing panics or goes on for ever, and all that is said or made names a line that is there.
#[test]
fn mutated_units_are_read_or_refused() {
    let rounds = option_env!("PREBIND_UNIT_ROUNDS").and_then(|text| text.parse().ok()).unwrap_or(20_000_u32);
    let mut mutator = Mutator(0x2545_F491_4F6C_DD1D);
    let (mut good, mut bad) = (0, 0);
    for _ in 0..rounds {
        let files = mutator.spoilt(&FILES, 6, b"\\\"'%[]=\n;#$ 0-@");
        let read = opened(&files);
        let inside =
            |origin: &Origin| names_a_line(&files, origin).unwrap_or(matches!(origin, Origin::Argument(1 | 2)));
        for one in &read.remarks {
            assert!(inside(&one.origin) && !one.message.is_empty(), "{one}");
        }
        for one in &read.problems {
            assert!(inside(&one.origin) && !one.message.is_empty(), "{one}");
        }
        assert!(read.sockets.iter().all(|one| inside(&one.origin)), "a socket names its line");
        assert!(!read.services.is_empty() || !read.problems.is_empty(), "nothing is lost without a word");
        let ids = read.services.iter().flat_map(|service| &service.sockets);
        assert!(ids.into_iter().all(|id| usize::from(id.0) < read.sockets.len()));
        if read.problems.is_empty() { good += 1 } else { bad += 1 }
    }
    assert!(good > rounds / 20 && bad > rounds / 20, "{good} read, {bad} refused: both are worth testing");
}

fn opened(files: &[(&'static str, Vec<u8>)]) -> Read {
    let folders = Mutated { files: files.to_vec(), asked: RefCell::new(0) };
    let outside = |letter: char| "tSCLE".contains(letter).then(|| "/run".to_string());
    let holds = |kind: &str, _: &str| (kind == "PathExists").then_some(false);
    let machine =
        Machine { folders: &folders, search: &["/u".into()], outside: &outside, holds: &holds, runs: &|_| false };
    let words = [("/u/a-b@c.socket", 1), ("/u/d.socket", 2)];
    let words = words.map(|(word, at)| (word.to_string(), Origin::Argument(at))).to_vec();
    let request = Request { words, allow_unprotected: true, ..Request::default() };
    let read = read(&request, &ServiceSpec::default(), machine);
    assert!(*folders.asked.borrow() < 1000, "it looks for a few files only");
    read
}

/// The untouched files are read without a problem.
#[test]
fn the_seed_itself_is_good() {
    let files: Vec<(&str, Vec<u8>)> = FILES.map(|(path, text)| (path, text.as_bytes().to_vec())).to_vec();
    let read = opened(&files);
    assert_eq!(read.problems, []);
    let names: Vec<&str> = read.services.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["a-b@c.service", "e.service", "d@.service"]);
}

/// Every key that the table calls honoured is taken by a reader, and none of the others is.
#[test]
fn the_table_and_the_readers_agree() {
    for (section, class, keys) in keys::rows() {
        for key in keys.split(' ') {
            let assignment = |section: &str| lex::Assignment {
                section: section.into(),
                key: key.into(),
                value: String::new(),
                origin: Origin::Default,
            };
            let service = name::UnitName::parse("a.service").expect("a name");
            let (socket, one) = (service.with_kind("socket"), [assignment(section)]);
            let left = match section {
                "Socket" => socket::read(&socket, &one, &|_| None, &mut Vec::new()).1.len(),
                _ => service::read(&service, &one, &|_| None, &mut Vec::new()).1.len(),
            };
            let taken = left == 0 || condition::is_condition(section, key);
            assert_eq!(taken, class == keys::Class::Honoured, "[{section}] {key}");
        }
    }
}
