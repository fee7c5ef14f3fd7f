//! Chapter "Containers", by an engine: images FROM scratch with the static build and a shell. Where there is no engine, or no
//! static build (tests/bench/dist makes it), the tests say so and pass.

use crate::harness::{Finished, TempDir, free_port, get, load, run_piped, wait_for};
use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;

fn docker(words: &[&str]) -> Finished {
    let mut command = Command::new("docker");
    command.args(words).env("DOCKER_BUILDKIT", "0");
    run_piped(command)
}

fn static_build() -> Option<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    let path = std::path::absolute(target.join("dist-static/prebind")).ok()?;
    path.exists().then_some(path)
}

/// The image, made once; `None`: it cannot be.
fn image() -> Option<&'static str> {
    static IMAGE: OnceLock<Option<String>> = OnceLock::new();
    let made = IMAGE.get_or_init(|| {
        let there = Command::new("docker").arg("info").stdout(Stdio::null()).stderr(Stdio::null()).status();
        let (Some(prebind), true) = (static_build(), there.is_ok_and(|status| status.success())) else {
            eprintln!("no Docker engine, or no static build: nothing is tested here");
            return None;
        };
        let dir = TempDir::new();
        fs::copy(prebind, dir.join("prebind")).expect("copied");
        fs::copy("/bin/busybox", dir.join("busybox")).expect("tests/setup installs busybox-static");
        let links = ["sh", "sleep", "true", "stty", "ps", "cat", "wc", "grep"]
            .map(|name| format!("COPY busybox /bin/{name}\n"));
        let recipe = format!(
            "FROM scratch\nCOPY prebind /bin/prebind\n{}\
             HEALTHCHECK --interval=1s --retries=60 CMD [\"/bin/prebind\", \"--ctl\", \"ready\"]\n\
             ENTRYPOINT [\"/bin/prebind\"]\nCMD [\"-b\", \"web=8080\", \"-n\", \"2\"]\n",
            links.concat()
        );
        fs::write(dir.join("Dockerfile"), recipe).expect("written");
        let name = format!("prebind-test-{}", std::process::id());
        docker(&["build", "-q", "-t", &name, &dir.path().display().to_string()]).code(0);
        Some(name)
    });
    made.as_deref()
}

/// A container that goes with its test.
struct Container(String);

impl Container {
    fn run(options: &[&str], words: &[&str]) -> Option<Container> {
        let all = [&["run", "-d"], options, &[image()?], words].concat();
        Some(Container(docker(&all).code(0).stdout.trim().into()))
    }

    fn docker(&self, command: &str, words: &[&str]) -> Finished {
        docker(&[&[command, self.0.as_str()], words].concat())
    }

    fn ctl(&self, words: &[&str]) -> Finished {
        self.docker("exec", &[&["/bin/prebind", "--ctl"], words].concat())
    }

    fn wait_ready(&self) {
        wait_for("a ready container", || self.ctl(&["ready"]).status.success().then_some(()));
    }

    fn inspect(&self, what: &str) -> String {
        docker(&["inspect", "-f", what, &self.0]).code(0).stdout.trim().into()
    }

    /// Whether that was written to its terminal or its output.
    fn shows(&self, text: &str) -> bool {
        self.docker("logs", &[]).stdout.contains(text)
    }

    fn kill(&self, signal: &str) {
        docker(&["kill", "-s", signal, &self.0]).code(0);
    }

    fn workers(&self) -> usize {
        let status = self.ctl(&["status", "--json"]).code(0).stdout.clone();
        let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
        status["services"][0]["ready"].as_u64().expect("a number") as usize
    }

    /// It stops, and how.
    fn stop(&self, code: &str) {
        docker(&["stop", "-t", "30", &self.0]).code(0);
        assert_eq!(self.inspect("{{.State.ExitCode}}"), code, "{}", self.docker("logs", &[]).stderr);
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = docker(&["rm", "-f", &self.0]);
    }
}

/// Read-only, as nobody, without any capability: it serves, its probe says yes, and an upgrade by a signal loses nobody.
#[test]
fn a_locked_down_container_serves_and_is_upgraded() {
    let port = free_port();
    let publish = format!("127.0.0.1:{port}:8080");
    let options = ["-p", &publish, "--read-only", "--user", "65534:65534", "--cap-drop", "ALL"];
    let Some(container) = Container::run(&options, &[]) else { return };
    container.wait_ready();
    let at = SocketAddr::from(([127, 0, 0, 1], port));
    get(at, "/").expect("an answer from the host");
    let said = container.docker("logs", &[]).stderr.clone();
    assert!(said.contains("control /dev/shm/prebind-65534/"), "{said}");
    wait_for("a healthy container", || (container.inspect("{{.State.Health.Status}}") == "healthy").then_some(()));
    let ((), tally) = load::while_asked(
        || (),
        || get(at, "/"),
        || {
            container.kill("HUP");
            wait_for("the next generation", || {
                let events = container.docker("logs", &[]).stderr.clone();
                events.contains("generation 2").then_some(())
            });
            container.wait_ready();
        },
    );
    tally.without_loss("docker kill -s HUP");
    container.kill("TTIN");
    wait_for("a third worker", || (container.workers() == 3).then_some(()));
    container.kill("TTOU");
    wait_for("two workers", || (container.workers() == 2).then_some(()));
    container.stop("0");
}

#[test]
fn an_entrypoint_ends_as_its_command_does() {
    let end = |options: &[&str], words: &[&str]| -> Option<String> {
        let container = Container::run(options, words)?;
        docker(&["wait", &container.0]).code(0);
        Some(container.inspect("{{.State.ExitCode}}"))
    };
    let Some(code) = end(&[], &["--", "sh", "-c", "exit 7"]) else { return };
    assert_eq!(code, "7");
    // Docker's own init before it: prebind is no PID 1, and ends all the same.
    assert_eq!(end(&["--init"], &["--restart", "no", "--", "sh", "-c", "exit 8"]).as_deref(), Some("8"));
    assert_eq!(end(&[], &["-b", "8080", "-s", "0.05", "-m", "notify", "--", "/bin/false"]).as_deref(), Some("111"));
    assert_eq!(
        end(&[], &["-b", "8080", "-s", "0.05", "-m", "notify", "--", "sh", "-c", "exit 1"]).as_deref(),
        Some("1")
    );
    for (script, code) in
        [("trap 'exit 5' TERM; echo up; while :; do sleep 0.1; done", "5"), ("echo up; exec sleep 1000", "143")]
    {
        let container = Container::run(&[], &["--", "sh", "-c", script]).expect("there is an engine");
        wait_for("the command", || container.docker("logs", &[]).stdout.contains("up").then_some(()));
        container.stop(code);
    }
}

/// A person at the terminal of a container.
struct Person {
    client: Child,
    keys: ChildStdin,
}

impl Person {
    /// `window`: rows and columns. What is typed before the client listens stays with script's own terminal or is lost, and ^C
    /// would end the client: the container's terminal shows what reached it.
    fn attach(container: &Container, window: (u32, u32)) -> Person {
        let mut attach = Command::new("script");
        let words = format!("stty rows {} cols {}; docker attach {}", window.0, window.1, container.0);
        attach.args(["-qec", &words, "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut client = attach.spawn().expect("script(1) is there");
        let keys = client.stdin.take().expect("piped");
        let mut person = Person { client, keys };
        wait_for("the echo", || {
            person.types(b"typed\n");
            container.shows("typed").then_some(())
        });
        person
    }

    fn types(&mut self, text: &[u8]) {
        let _ = self.keys.write_all(text).and_then(|()| self.keys.flush());
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        let _ = self.client.kill();
        let _ = self.client.wait();
    }
}

/// `docker run -it`: the command has the terminal, and ^C.
#[test]
fn a_terminal_is_the_commands() {
    let script = "trap 'echo interrupted; exit 9' INT; stty size; echo up; while :; do sleep 0.1; done";
    let Some(container) = Container::run(&["-i", "-t"], &["--", "sh", "-c", script]) else { return };
    wait_for("the command", || container.shows("up").then_some(()));
    let mut person = Person::attach(&container, (24, 80));
    person.types(b"\x03");
    wait_for("the end", || (container.inspect("{{.State.Running}}") == "false").then_some(()));
    assert!(container.shows("interrupted"));
    assert_eq!(container.inspect("{{.State.ExitCode}}"), "9");
}

/// A shell in it has job control, and knows the size of the window, also when that changes.
#[test]
fn a_shell_in_a_terminal() {
    let Some(container) = Container::run(&["-i", "-t"], &["--", "sh"]) else { return };
    let mut person = Person::attach(&container, (33, 111));
    wait_for("the size", || {
        person.types(b"stty size\n");
        container.shows("33 111").then_some(())
    });
    person.types(b"sleep 1000\n");
    wait_for("the job", || container.docker("top", &["-o", "pid,args"]).stdout.contains("sleep 1000").then_some(()));
    // ^Z may come before the shell has given the terminal away.
    wait_for("a stopped job", || {
        person.types(b"\x1a");
        container.shows("Stopped").then_some(())
    });
    drop(person);
    let mut person = Person::attach(&container, (44, 122));
    wait_for("another size", || {
        person.types(b"stty size\n");
        container.shows("44 122").then_some(())
    });
    person.types(b"kill -9 %1\n");
    // With a job that has stopped it does not leave at the first word.
    wait_for("the end", || {
        person.types(b"exit 6\n");
        (container.inspect("{{.State.Running}}") == "false").then_some(())
    });
    assert_eq!(container.inspect("{{.State.ExitCode}}"), "6");
}

/// As many workers as the quota allows, and who ran out of memory is named.
#[test]
fn quota_and_memory_of_the_container_count() {
    let Some(container) = Container::run(&["--cpus", "1"], &["-b", "8080", "-n", "auto"]) else { return };
    container.wait_ready();
    assert_eq!(container.workers(), 1);
    container.stop("0");
    let eat = "trap '' TERM; x=x; while :; do x=$x$x; done";
    let options = ["--memory", "64m", "--memory-swap", "64m"];
    let words = ["-b", "8080", "-m", "0", "-s", "0.2", "--", "sh", "-c", eat];
    let container = Container::run(&options, &words).expect("there is an engine");
    wait_for("the word", || {
        let said = container.docker("logs", &[]).stderr.clone();
        said.contains("out of memory, the kernel killed it").then_some(())
    });
}
