use super::file::tests::Folder;
use super::*;
use crate::plan::Rotation;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::pipe2;
use std::io::Write;
use std::sync::Mutex;
use std::time::Instant;

struct World {
    logs: Logs,
    folder: Folder,
    said: Arc<Mutex<Vec<String>>>,
}

impl World {
    fn new(name: &str) -> World {
        let said = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&said);
        let logs = Logs::new(Arc::new(move |message| heard.lock().expect("no panic").push(message)));
        World { logs, folder: Folder::new(name), said }
    }

    /// A worker: what it writes to.
    fn worker(&mut self, pid: i32, time_format: Option<&str>) -> File {
        let spec = LogFile { time_format: time_format.map(Into::into), ..self.folder.file(Rotation::Never) };
        let file = File::options().create(true).append(true).open(&spec.path).expect("it opens");
        let (read, write) = pipe2(OFlag::O_CLOEXEC).expect("a pipe");
        fcntl(&read, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).expect("set");
        self.logs.follow(pid, spec, file, read);
        write.into()
    }

    fn wait_for(&self, text: &str) {
        let until = Instant::now() + Duration::from_secs(30);
        while self.folder.text("log") != text {
            assert!(Instant::now() < until, "{:?} instead of {text:?}", self.folder.text("log"));
            std::thread::yield_now();
        }
    }
}

#[test]
fn whole_lines_of_several_workers() {
    let mut world = World::new("several");
    let (mut one, mut two) = (world.worker(1, None), world.worker(2, None));
    one.write_all(b"one begins").expect("written");
    two.write_all(b"two\n").expect("written");
    world.wait_for("two\n");
    one.write_all(b", ends\n").expect("written");
    world.wait_for("two\none begins, ends\n");
    two.write_all(b"last words").expect("written");
    drop(two);
    world.wait_for("two\none begins, ends\nlast words");
    one.write_all(b"after them\nunfinished").expect("written");
    world.logs.finish(Duration::from_secs(30));
    assert_eq!(world.folder.text("log"), "two\none begins, ends\nlast words\nafter them\nunfinished");
    assert_eq!(*world.said.lock().expect("no panic"), Vec::<String>::new());
}

#[test]
fn a_prefix_has_time_and_pid() {
    let mut world = World::new("prefix");
    let mut worker = world.worker(77, Some("at-%%"));
    worker.write_all(b"a\nb\n").expect("written");
    world.wait_for("at-% [77] | a\nat-% [77] | b\n");
    // A beginning that waited too long is a line's beginning still.
    worker.write_all(b"c").expect("written");
    world.wait_for("at-% [77] | a\nat-% [77] | b\nat-% [77] | c");
    worker.write_all(b"c\nd\n").expect("written");
    world.wait_for("at-% [77] | a\nat-% [77] | b\nat-% [77] | cc\nat-% [77] | d\n");
}

#[test]
fn another_program_goes_on_in_the_middle_of_a_line() {
    let mut world = World::new("frozen");
    let mut worker = world.worker(1, None);
    worker.write_all(b"first\n").expect("written");
    world.wait_for("first\n");
    let paused = world.logs.pause().expect("it answers");
    worker.write_all(b"while nobody reads\n").expect("written");
    world.logs.go_on(paused);
    world.wait_for("first\nwhile nobody reads\n");

    let paused = world.logs.pause().expect("it answers");
    let mut fds = Vec::new();
    let frozen = serde_json::to_string(&Logs::freeze(&paused, &mut fds)).expect("it can be told");
    assert_eq!(fds, [paused.0[0].pipe.as_raw_fd()]);
    let mut pipes: Vec<OwnedFd> = paused.0.into_iter().map(|source| source.pipe).collect();
    worker.write_all(b"between\n").expect("written");
    world.logs.thaw(serde_json::from_str(&frozen).expect("it is understood"), &mut |_| pipes.remove(0));
    world.wait_for("first\nwhile nobody reads\nbetween\n");
}
