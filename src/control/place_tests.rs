//! Claims in a directory of the test's own.

use super::*;
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::sync::atomic::{AtomicU32, Ordering};

/// A directory that goes with the test.
struct Place(PathBuf);

impl Drop for Place {
    fn drop(&mut self) {
        // Left behind it would only lie in the temporary directory.
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Place {
    fn new() -> Place {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("prebind-place-{}-{count}", own_pid()));
        DirBuilder::new().mode(0o700).create(&path).expect("directory");
        Place(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn directories(&self) -> Vec<Directory> {
        vec![Directory { path: self.path("run"), mode: 0o700 }]
    }

    fn claim(&self, identity: &Identity) -> Result<Option<Claim>, PlaceError> {
        claim_among(&self.directories(), identity, "web")
    }

    fn refused(&self, identity: &Identity) -> String {
        self.claim(identity).expect_err("refused").to_string()
    }

    /// What lies in the place and in its `run`.
    fn left(&self) -> Vec<String> {
        let read = |path: PathBuf| fs::read_dir(path).into_iter().flatten().flatten();
        let names = read(self.0.clone()).chain(read(self.path("run")));
        let mut names: Vec<String> = names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

fn at(path: &Path) -> Identity {
    Identity { socket_path: Some(path.into()), ..Identity::default() }
}

#[test]
fn a_default_name_is_taken_and_let_go() {
    let place = Place::new();
    let pidfile = place.path("pid");
    let identity = Identity { pidfile: Some(pidfile.clone()), ..Identity::default() };
    let mut claim = place.claim(&identity).expect("claim").expect("some");
    let path = place.path("run/web.sock");
    assert_eq!((claim.path(), claim.remark()), (Some(path.as_path()), None));
    assert_eq!(fs::read_to_string(&pidfile).expect("pid file"), format!("{}\n", own_pid()));
    let mode = if geteuid().is_root() { 0o666 } else { 0o600 };
    assert_eq!(fs::metadata(&path).expect("socket").mode() & 0o777, mode);
    assert_eq!(fs::metadata(place.path("run")).expect("directory").mode() & 0o777, 0o700);
    let listener = claim.take_listener().expect("listener");
    assert_eq!(listener.accept().expect_err("nobody yet").kind(), io::ErrorKind::WouldBlock);
    UnixStream::connect(&path).expect("connect");
    listener.accept().expect("accept");
    drop(claim);
    assert_eq!(place.left(), ["run"]);
}

#[test]
fn a_busy_default_name_gets_another_one_and_the_first_is_unharmed() {
    let place = Place::new();
    let first = place.claim(&Identity::default()).expect("first").expect("some");
    let second = place.claim(&Identity::default()).expect("second").expect("some");
    let (path, other) = (place.path("run/web.sock"), place.path(&format!("run/web-{}.sock", own_pid())));
    assert_eq!(second.path(), Some(other.as_path()));
    let remark = format!("{} is busy (pid {}); the control socket is {}", path.display(), own_pid(), other.display());
    assert_eq!(second.remark(), Some(remark.as_str()));
    drop(second);
    UnixStream::connect(&path).expect("the first is still there");
    drop(first);
    assert_eq!(place.left(), ["run"]);
}

#[test]
fn what_was_asked_for_and_is_busy_is_refused() {
    let place = Place::new();
    let (path, pidfile) = (place.path("x.sock"), place.path("pid"));
    let by_path = Identity { pidfile: Some(pidfile.clone()), ..at(&path) };
    let _first = place.claim(&by_path).expect("first").expect("some");
    let busy = format!("cannot take control socket {}: another prebind holds it (pid {})", path.display(), own_pid());
    assert!(place.refused(&by_path).starts_with(&busy), "{}", place.refused(&by_path));
    assert!(pidfile.exists());
    UnixStream::connect(&path).expect("the first is still there");
    let by_name = Identity { name: Some("web".into()), ..Identity::default() };
    let _named = place.claim(&by_name).expect("named").expect("some");
    assert!(place.refused(&by_name).contains("web.sock: another prebind holds it"));
    // Somebody who knows nothing of our lock.
    let path = place.path("run/einhorn.sock");
    let _einhorn = UnixListener::bind(&path).expect("bind");
    let asked = Identity { name: Some("einhorn".into()), ..Identity::default() };
    let busy = format!("einhorn.sock: somebody answers on it (pid {})", own_pid());
    assert!(place.refused(&asked).contains(&busy), "{}", place.refused(&asked));
    assert!(!place.path("run/einhorn.sock.lock").exists());
}

#[test]
fn only_a_socket_that_nobody_answers_on_is_replaced() {
    let place = Place::new();
    let path = place.path("run/web.sock");
    DirBuilder::new().mode(0o700).create(place.path("run")).expect("directory");
    drop(UnixListener::bind(&path).expect("stale"));
    fs::write(place.path("run/web.sock.lock"), "4711\n").expect("stale lock");
    assert!(path.exists());
    let claim = place.claim(&Identity::default()).expect("claim").expect("some");
    assert_eq!((claim.path(), claim.remark()), (Some(path.as_path()), None));
    UnixStream::connect(&path).expect("connect");
    drop(claim);
    let file = place.path("file");
    fs::write(&file, "precious").expect("file");
    assert!(place.refused(&at(&file)).contains("it exists and is no socket (remove it, or -d PATH)"));
    assert_eq!(fs::read_to_string(&file).expect("file"), "precious");
    let datagram = place.path("datagram");
    let _datagram = UnixDatagram::bind(&datagram).expect("bind");
    assert!(place.refused(&at(&datagram)).contains("a socket of another kind"));
    // Under a default name such a file is stepped around.
    fs::write(&path, "precious").expect("file");
    let claim = place.claim(&Identity::default()).expect("claim").expect("some");
    assert!(claim.remark().is_some());
    drop(claim);
    assert_eq!(fs::read_to_string(&path).expect("file"), "precious");
}

#[test]
fn what_is_no_longer_ours_stays() {
    let place = Place::new();
    let (path, pidfile) = (place.path("x.sock"), place.path("pid"));
    let claim = place.claim(&Identity { pidfile: Some(pidfile.clone()), ..at(&path) }).expect("claim");
    fs::remove_file(&path).expect("remove");
    let _other = UnixListener::bind(&path).expect("another's");
    fs::write(&pidfile, "1\n").expect("another's");
    drop(claim);
    assert_eq!(place.left(), ["pid", "x.sock"]);
}

#[test]
fn pid_files() {
    let place = Place::new();
    let path = place.path("pid");
    let identity = Identity { pidfile: Some(path.clone()), no_control: true, ..Identity::default() };
    // An old one: of a process that is gone, of one that is no prebind, or nonsense.
    for old in ["1073741824\n", "1\n", "nonsense", ""] {
        fs::write(&path, old).expect("old");
        let claim = place.claim(&identity).expect(old).expect("some");
        assert_eq!(claim.path(), None);
        assert_eq!(pid_in(&path), Some(own_pid()), "{old:?}");
        drop(claim);
        assert!(!path.exists());
    }
    // Through a link, which stays.
    symlink(place.path("target"), &path).expect("link");
    drop(place.claim(&identity).expect("claim"));
    assert_eq!(pid_in(&place.path("target")), Some(own_pid()));
    assert!(fs::symlink_metadata(&path).is_ok());
    let missing = Identity { pidfile: Some(place.path("no/pid")), ..Identity::default() };
    let message = format!("cannot write the pid file {}: no such file", place.path("no/pid").display());
    assert_eq!(place.refused(&missing), message);
    assert_eq!(place.left(), ["pid", "run", "target"], "a refused claim lets everything go");
    assert!(same_program(own_pid()) && !same_program(1 << 30));
}

#[test]
fn lock_files() {
    let place = Place::new();
    let path = place.path("lock");
    fs::write(&path, "theirs").expect("file");
    let identity = Identity { lockfile: Some(path.clone()), ..Identity::default() };
    let first = place.claim(&identity).expect("first");
    assert!(place.refused(&identity).contains("lock: another process holds its lock"));
    drop(first);
    assert_eq!(fs::read_to_string(&path).expect("stays"), "theirs");
    drop(place.claim(&identity).expect("again"));
    assert!(place.claim(&Identity { no_control: true, ..Identity::default() }).expect("nothing").is_none());
}

#[test]
fn directories_are_tried_in_order() {
    let place = Place::new();
    let missing = Directory { path: place.path("no/run"), mode: 0o700 };
    let open = Directory { path: place.path("open"), mode: 0o700 };
    let link = Directory { path: place.path("link"), mode: 0o700 };
    let long = Directory { path: place.path(&"x".repeat(100)), mode: 0o700 };
    let good = Directory { path: place.path("good"), mode: 0o755 };
    fs::create_dir(&open.path).expect("directory");
    fs::set_permissions(&open.path, Permissions::from_mode(0o777)).expect("mode");
    symlink(&place.0, &link.path).expect("link");
    let mut all = vec![missing, open, link, long];
    let named = Identity { name: Some("web".into()), ..Identity::default() };
    let error = claim_among(&all, &named, "web").expect_err("none serves").to_string();
    for part in
        ["no/run: no such file", "open: mode 777: others may write to it", "link: not a directory", "at most 107"]
    {
        assert!(error.contains(part), "{part}: {error}");
    }
    let none = claim_among(&all, &Identity::default(), "web").expect("it goes on").expect("with a remark");
    assert!(none.path().is_none() && none.remark().is_some_and(|why| why.contains("no directory serves")));
    all.push(good);
    let claim = claim_among(&all, &Identity::default(), "web").expect("claim").expect("some");
    assert_eq!(claim.path(), Some(place.path("good/web.sock").as_path()));
    assert_eq!(fs::metadata(place.path("good")).expect("directory").mode() & 0o777, 0o755);
}

#[test]
fn the_default_directories() {
    let env = |name: &str| match name {
        "XDG_RUNTIME_DIR" => Some("/run/user/7".into()),
        "TMPDIR" => Some("relative".into()),
        _ => None,
    };
    let paths = |uid, env| directories(Uid::from_raw(uid), env).into_iter().map(|d| d.path).collect::<Vec<_>>();
    let all = |paths: [&str; 3]| paths.map(PathBuf::from);
    assert_eq!(paths(7, &env), all(["/run/user/7/prebind", "/tmp/prebind-7", "/dev/shm/prebind-7"]));
    assert_eq!(paths(0, &|_| None), all(["/run/prebind", "/tmp/prebind-0", "/dev/shm/prebind-0"]));
}

#[test]
fn names() {
    let place = Place::new();
    for name in ["", "a/b", "../x", ".hidden"] {
        let identity = Identity { name: Some(name.into()), ..Identity::default() };
        assert!(matches!(place.claim(&identity), Err(PlaceError::BadName(_))), "{name}");
        assert!(claim_among(&place.directories(), &Identity::default(), name).expect(name).is_some());
    }
}
