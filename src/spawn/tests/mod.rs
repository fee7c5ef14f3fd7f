//! Launches of real, small programs: what a worker finds, and what is left where there is none.

mod errors;
mod finds;
mod rights;
mod streams;
mod units;

use super::*;
use crate::plan::{
    Command, Exec, Limit, ListenEnv, Origin, Piece, Privilege, ProcessSpec, Resource, SECOND, SocketRef, StepSpec,
    Template,
};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Words without placeholders.
fn command(words: &[&str]) -> Command {
    Command::Program(words.iter().map(|word| Template(vec![Piece::Text(word.into())])).collect())
}

/// A command of a unit in which `$` is not special.
fn exec(words: &[&str]) -> Exec {
    Exec {
        path: text(words[0]),
        words: words.iter().map(|word| text(word)).collect(),
        may_fail: false,
        literal: true,
        privilege: Privilege::Unit,
        origin: Origin::Default,
    }
}

fn text(word: &str) -> Template {
    Template(vec![Piece::Text(word.into())])
}

fn facts(name: &str, family: Option<&'static str>) -> SocketFacts {
    SocketFacts {
        name: name.into(),
        kind: "tcp",
        address: "127.0.0.1:8080".into(),
        host: Some("127.0.0.1".into()),
        port: Some(8080),
        path: None,
        family,
        inherited: false,
        node: (0, 0),
    }
}

/// A world to launch in: a base, a service, sockets.
struct World {
    base: Base,
    service: ServiceSpec,
    sockets: Vec<(OwnedFd, SocketFacts)>,
}

impl World {
    fn new(words: &[&str]) -> World {
        let base = Base {
            environment: vec![("PATH".into(), "/usr/bin:/bin".into())],
            start_dir: "/".into(),
            own_path: "/bin/sh".into(),
            master_pid: std::process::id().cast_signed(),
            ..Base::default()
        };
        let listen_env = ListenEnv::Full;
        let service = ServiceSpec { name: "web".into(), command: command(words), listen_env, ..ServiceSpec::default() };
        World { base, service, sockets: Vec::new() }
    }

    fn shell(script: &str) -> World {
        World::new(&["sh", "-c", script])
    }

    /// A unit's, as the reader of units makes one.
    fn unit(script: &str) -> World {
        let mut world = World::new(&[]);
        world.base.environment.push(("LANG".into(), "C.UTF-8".into()));
        world.base.start_dir = "/tmp".into();
        world.service.name = "web.service".into();
        world.service.command = Command::Execs(vec![exec(&["/bin/sh", "-c", script])]);
        world.service.umask = Some(0o022);
        world.service.chdir = Some("/".into());
        world.service.process = ProcessSpec { unit: true, clean_environment: true, ..ProcessSpec::default() };
        world
    }

    /// Changes how its processes are set up.
    fn process(mut self, change: impl FnOnce(&mut ProcessSpec)) -> World {
        change(&mut self.service.process);
        self
    }

    /// The rights of its first command.
    fn privilege(mut self, privilege: Privilege) -> World {
        let Command::Execs(execs) = &mut self.service.command else { unreachable!() };
        execs[0].privilege = privilege;
        self
    }

    /// Adds a socket; its descriptor is moved to a number from `least` on.
    fn socket(mut self, name: &str, family: Option<&'static str>) -> World {
        let fd = nix::fcntl::fcntl(File::open("/etc/passwd").unwrap(), nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(500));
        self.sockets.push((owned(fd.unwrap()), facts(name, family)));
        self
    }

    fn copy<'a>(&self) -> Copy<'a> {
        Copy {
            service: ServiceId(0),
            slot: 2,
            generation: 7,
            index: 5,
            control_fd: None,
            terminal: None,
            part: crate::spawn::Part::Main(0),
            connection: None,
            stored: &[],
            invocation: 0,
            cgroup: None,
            main_pid: None,
            outcome: None,
        }
    }

    fn launch(&self, copy: &Copy) -> Result<Launched, SpawnError> {
        let ids = (0..).map(SocketId);
        let given: Vec<Given> =
            self.sockets.iter().zip(ids).map(|((fd, facts), id)| Given { id, fd: fd.as_fd(), facts }).collect();
        // A change of uid touches a flag of this whole process.
        let alone = (self.service.user.is_some() || self.service.group.is_some()).then(alone);
        let _guard = alone.is_none().then(launching);
        launch_with(&self.base, &self.service, &given, copy)
    }

    /// Launches with the standard output in a file that the script has to write to itself (`$OUT`), and returns pid and
    /// what was written.
    fn run<'a>(mut self, change: impl FnOnce(&mut Copy<'a>)) -> (i32, String) {
        let directory = Scratch::new();
        let out = directory.0.join("out");
        std::fs::write(&out, "").unwrap();
        std::fs::set_permissions(&out, PermissionsExt::from_mode(0o666)).unwrap();
        self.service.env.insert(0, ("OUT".into(), text(out.to_str().unwrap())));
        let mut copy = self.copy();
        change(&mut copy);
        let launched = self.launch(&copy).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(wait(launched.pid), WaitStatus::Exited(Pid::from_raw(launched.pid), 0));
        (launched.pid, std::fs::read_to_string(&out).unwrap())
    }

    fn with(mut self, change: impl FnOnce(&mut ServiceSpec)) -> World {
        change(&mut self.service);
        self
    }

    fn output(self) -> String {
        self.run(|_| ()).1
    }

    fn error(&self) -> SpawnError {
        self.launch(&self.copy()).unwrap_err()
    }
}

#[allow(unsafe_code)]
fn owned(fd: i32) -> OwnedFd {
    // SAFETY: the caller has just made it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Held for reading around a launch, for writing while a program is written: a child of another thread that had
/// the file open for an instant would make its execution fail with "text file busy".
static PROGRAMS: RwLock<()> = RwLock::new(());

fn launching() -> RwLockReadGuard<'static, ()> {
    PROGRAMS.read().unwrap_or_else(PoisonError::into_inner)
}

fn alone() -> RwLockWriteGuard<'static, ()> {
    PROGRAMS.write().unwrap_or_else(PoisonError::into_inner)
}

fn wait(pid: i32) -> WaitStatus {
    waitpid(Pid::from_raw(pid), None).unwrap()
}

/// A directory that everybody may enter, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("prebind-spawn-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        Scratch(path)
    }

    fn file(&self, name: &str, text: &str, mode: u32) -> String {
        let path = self.0.join(name);
        let _guard = alone();
        let mut file = File::create(&path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file.set_permissions(PermissionsExt::from_mode(mode)).unwrap();
        path.to_str().unwrap().into()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn root() -> bool {
    nix::unistd::geteuid().is_root()
}
