use super::*;
use crate::front::mutation::{Mutator, names_a_line};
use crate::plan::SocketRef;

const FILES: [(&str, &str); 3] = [
    (
        "circus.ini",
        "[circus]\ninclude = more*.ini\numask = 022\ncheck_delay=1\nloglevel: debug\n[socket:web]\nhost = localhost\nport = 8080\n\
         [socket:u]\npath = /run/u\numask = 0117\nso_reuseport=no\n[watcher:w]\ncmd = chaussette --fd $(circus.sockets.web) 'a b' \\\n\
         \x20 ((circus.env.HOME))\nargs={SOCKET:u} $(circus.wid)\nuse_sockets = yes ; all\nnumprocesses = 2\nrlimit_nofile=10\n\
         stdout_stream.class = FileStream\nstdout_stream.filename = x.log\nmax_age = 3\npriority=2\n",
    ),
    (
        "more1.ini",
        "[env]\nA=$HOME\n[env:w,x*]\nB = $(circus.env.a)\n[plugin:f]\nuse=circus.plugins.flapping.Flapping\nretry_in=3\n",
    ),
    (
        "more2.ini",
        "[watcher:d]\ncmd=sh\nshell=yes\nshell_args=a b\non_demand=yes\nstdin_socket=web\n[DEFAULT]\ngid=0\n",
    ),
];

/// Nothing panics or goes on for ever, and all that is said or made names a line that is there.
#[test]
fn mutated_files_are_read_or_refused() {
    let rounds = option_env!("PREBIND_CIRCUS_ROUNDS").and_then(|text| text.parse().ok()).unwrap_or(20_000_u32);
    let mut mutator = Mutator(0x9E37_79B9_7F4A_7C15);
    let (mut good, mut bad) = (0, 0);
    for _ in 0..rounds {
        let files = mutator.spoilt(&FILES, 4, b"\\\"'%[]=\n:;#$( )0{");
        let read = opened(&files);
        let inside = |origin: &Origin| names_a_line(&files, origin).unwrap_or(matches!(origin, Origin::Argument(2)));
        assert!(read.remarks.iter().all(|one| inside(&one.origin) && !one.message.is_empty()));
        assert!(read.problems.iter().all(|one| inside(&one.origin) && !one.message.is_empty()));
        assert!(
            read.sockets.iter().all(|one| inside(&one.origin)) && read.services.iter().all(|one| inside(&one.origin))
        );
        assert!(!read.services.is_empty() || !read.problems.is_empty(), "nothing is lost without a word");
        if read.problems.is_empty() {
            good += 1;
            sound(&read);
        } else {
            bad += 1;
        }
    }
    assert!(good > rounds / 20 && bad > rounds / 20, "{good} read, {bad} refused: both are worth testing");
}

/// A service gets each socket that it names.
fn sound(read: &Read) {
    for service in &read.services {
        assert!(service.sockets.iter().all(|id| usize::from(id.0) < read.sockets.len()));
        let crate::plan::Command::Program(words) = &service.command else { panic!("{service:?}") };
        assert!(!words.is_empty());
        let named = words.iter().chain(service.env.iter().map(|(_, value)| value)).flat_map(|word| word.sockets());
        for of in named {
            assert!(matches!(of, SocketRef::Only) || matches!(of, SocketRef::At(id) if service.sockets.contains(id)));
        }
    }
}

fn opened(files: &[(&'static str, Vec<u8>)]) -> Read {
    let read = |path: &str| {
        let found = files.iter().find(|(known, _)| *known == path);
        found.map(|(_, bytes)| bytes.clone()).ok_or_else(|| "no such file".to_string())
    };
    let matching = |pattern: &str| {
        let names = files.iter().map(|(name, _)| name.to_string());
        names.filter(|name| crate::front::pattern::fits(pattern, name)).collect()
    };
    let environment = [("HOME".to_string(), "/home/me".to_string())];
    let machine = Machine { read: &read, matching: &matching, environment: &environment, directory: "/here" };
    let request = Request { file: "circus.ini".into(), origin: Origin::Argument(2) };
    super::read(&request, &ServiceSpec::default(), machine)
}

/// The untouched files are read without a problem.
#[test]
fn the_seed_itself_is_good() {
    let files: Vec<(&str, Vec<u8>)> = FILES.map(|(path, text)| (path, text.as_bytes().to_vec())).to_vec();
    let read = opened(&files);
    assert_eq!(read.problems, []);
    assert_eq!(read.services.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["w", "d"]);
    sound(&read);
}
