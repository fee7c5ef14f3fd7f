use super::*;
use std::cell::RefCell;

/// An empty folder that goes with its test.
pub(in crate::logs) struct Folder(pub(in crate::logs) PathBuf);

impl Folder {
    pub(in crate::logs) fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("prebind-logs-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder");
        Folder(path)
    }

    pub(in crate::logs) fn file(&self, rotation: Rotation) -> LogFile {
        LogFile { path: self.0.join("log"), rotation, time_format: None }
    }

    pub(in crate::logs) fn text(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Every file's name, in order.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).expect("it is there").flatten();
        let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn quiet(message: String) {
    panic!("nothing is wrong: {message}");
}

#[test]
fn a_file_is_put_aside_before_it_is_full() {
    let folder = Folder::new("size");
    let mut log = Written::new(folder.file(Rotation::Size { max_bytes: 13, backups: 2 }), None);
    log.write(1, b"one 1\none 2\n", &quiet);
    assert_eq!(folder.names(), ["log"], "12 bytes are fewer than 13");
    log.write(1, b"two 1\n", &quiet);
    log.write(1, b"two 2\nthree\nfour 1\n", &quiet);
    assert_eq!(folder.names(), ["log", "log.1", "log.2"]);
    assert_eq!((folder.text("log"), folder.text("log.1")), ("four 1\n".into(), "three\n".into()));
    assert_eq!(folder.text("log.2"), "two 1\ntwo 2\n", "the oldest went");
    log.write(1, b"a line that is longer than a whole file\nx\n", &quiet);
    assert_eq!(folder.text("log.1"), "a line that is longer than a whole file\n");
    assert_eq!((folder.text("log"), folder.text("log.2")), ("x\n".into(), "four 1\n".into()));
}

#[test]
fn the_next_file_has_the_rights_of_the_one_before() {
    let folder = Folder::new("rights");
    let spec = folder.file(Rotation::Size { max_bytes: 3, backups: 1 });
    fs::write(&spec.path, "old\n").expect("written");
    fs::set_permissions(&spec.path, Permissions::from_mode(0o640)).expect("changed");
    let mut log = Written::new(spec.clone(), None);
    log.write(1, b"n\n", &quiet);
    assert_eq!((folder.text("log"), folder.text("log.1")), ("n\n".into(), "old\n".into()));
    assert_eq!(fs::metadata(&spec.path).expect("it is there").mode() & 0o7777, 0o640);
}

#[test]
fn lines_of_two_workers_do_not_run_into_each_other() {
    let folder = Folder::new("lines");
    let mut log = Written::new(folder.file(Rotation::Never), None);
    log.write(1, b"begun", &quiet);
    log.write(1, b", ended\nhalf", &quiet);
    log.write(2, b"whole\n", &quiet);
    log.write(1, b"rest\n", &quiet);
    assert_eq!(folder.text("log"), "begun, ended\nhalf\nwhole\nrest\n");
}

#[test]
fn periods_have_files_of_their_own() {
    let folder = Folder::new("time");
    let spec = folder.file(Rotation::Time { unit: Unit::Hour, interval: 1, backups: 2, utc: true });
    for (suffix, text) in [("2020010101", "a"), ("2020010102", "b"), ("2020010102-2", "c"), ("other", "d")] {
        fs::write(with_suffix(&spec.path, suffix), text).expect("written");
    }
    let old = File::options().create_new(true).append(true).open(&spec.path).expect("made");
    (&old).write_all(b"old\n").expect("written");
    // 2026-01-02 03:04:05, so that its period is over.
    old.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_767_323_045)).expect("set");
    let mut log = Written::new(spec, Some(old));
    log.write(1, b"new\n", &quiet);
    log.write(1, b"newer\n", &quiet);
    assert_eq!(folder.names(), ["log", "log.2020010102-2", "log.2026010203", "log.other"]);
    assert_eq!((folder.text("log"), folder.text("log.2026010203")), ("new\nnewer\n".into(), "old\n".into()));
}

#[test]
fn nothing_is_written_over() {
    let folder = Folder::new("names");
    let path = folder.0.join("log");
    for text in ["a", "b", "c"] {
        fs::write(&path, text).expect("written");
        name_after(&path, "2026").expect("renamed");
    }
    assert_eq!(folder.names(), ["log.2026", "log.2026-2", "log.2026-3"]);
    assert!(name_after(&path, "2026").is_ok() && shift(&path, 3).is_ok(), "a file that is not there");
}

#[test]
fn a_file_that_somebody_moved_is_opened_anew() {
    let folder = Folder::new("watched");
    let mut log = Written::new(folder.file(Rotation::Watched), None);
    log.write(1, b"a\n", &quiet);
    fs::rename(folder.0.join("log"), folder.0.join("moved")).expect("moved");
    log.write(1, b"b\n", &quiet);
    assert_eq!((folder.text("log"), folder.text("moved")), ("b\n".into(), "a\n".into()));
    // Without being watched it is opened anew when that is asked for.
    log.spec.rotation = Rotation::Never;
    fs::rename(folder.0.join("log"), folder.0.join("moved")).expect("moved");
    log.write(1, b"c\n", &quiet);
    log.open(&quiet);
    log.write(1, b"d\n", &quiet);
    assert_eq!((folder.text("log"), folder.text("moved")), ("d\n".into(), "b\nc\n".into()));
}

#[test]
fn what_is_lost_is_counted_and_said_once() {
    let said = RefCell::new(Vec::new());
    let say = |message: String| said.borrow_mut().push(message);
    let folder = Folder::new("full");
    let mut log = Written::new(LogFile { path: "/dev/full".into(), ..folder.file(Rotation::Never) }, None);
    log.write(1, b"12345\n", &say);
    log.write(1, b"678\n", &say);
    assert_eq!(
        said.take(),
        ["cannot write /dev/full: no space left on device; what workers write is lost until it can"]
    );
    log.spec.path = folder.0.join("log");
    log.open(&say);
    log.write(1, b"9\n", &say);
    let path = folder.0.join("log");
    assert_eq!(said.take(), [format!("{}: is written again; 10 bytes of log were lost", path.display())]);
    assert_eq!(folder.text("log"), "9\n");
    // Nowhere to put it aside: it grows.
    log.spec = LogFile { path: "/dev/full".into(), ..folder.file(Rotation::Size { max_bytes: 2, backups: 1 }) };
    log.spec.path = folder.0.join("none/log");
    log.write(1, b"1\n2\n", &say);
    log.file = None;
    log.write(1, b"3\n", &say);
    assert!(said.take()[0].starts_with("cannot open "));
}
