//! What goes out: the log, the subscribers, the answers; in prebind's words or in einhorn's.

use super::log::timestamp;
use super::{Linux, monotonic};
use crate::control::einhorn::{self, Known, Word};
use crate::control::event::{EventLine, Level, Names, event};
use crate::control::options;
use crate::control::status::{Facts, SocketLine, reply_to};
use crate::plan::{Nanos, Signal, SocketId};
use crate::supervise::{Answer, AskId, ChildId, Ended, Happening};
use std::time::{Duration, SystemTime};

impl Linux {
    pub(super) fn answer(&mut self, ask: AskId, answer: &Answer) {
        let word = self.sources.control.as_ref().and_then(|control| control.word_of(ask)).cloned();
        let (ok, message, data) = match word {
            Some(word) => {
                let (ok, message) = self.einhorns_reply(&word, Some(answer));
                (ok, message, None)
            }
            None => self.own_reply(answer),
        };
        if let Some(control) = &mut self.sources.control {
            control.answer(ask, ok, &message, data);
        }
    }

    /// A request that the supervisor is not needed for.
    pub(super) fn answer_local(&mut self, ask: AskId, word: &Word) {
        match word {
            Word::Louder => self.log.shift(1),
            Word::Quieter => self.log.shift(-1),
            _ => {}
        }
        let (ok, message) = self.einhorns_reply(word, None);
        if let Some(control) = &mut self.sources.control {
            control.answer(ask, ok, &message, None);
        }
    }

    fn own_reply(&self, answer: &Answer) -> (bool, String, Option<serde_json::Value>) {
        let lines = if matches!(answer, Answer::Status(_)) { self.socket_lines() } else { Vec::new() };
        reply_to(
            answer,
            &Facts {
                pid: std::process::id(),
                version: env!("CARGO_PKG_VERSION"),
                uptime_ns: monotonic().saturating_sub(self.started_at),
                sockets: &lines,
                service_name: &|id| self.plan.service(id).name.as_str(),
                pid_of: &|child| self.children.pid(child),
                options_of: &|id, number| options::data(&self.plan, self.plan.service(id), number),
            },
        )
    }

    fn einhorns_reply(&self, word: &Word, answer: Option<&Answer>) -> (bool, String) {
        let addresses: Vec<String> = self.socket_lines().into_iter().map(|line| line.address).collect();
        let socket_path = self.claim.as_ref().and_then(|claim| claim.path()).map(|path| path.display().to_string());
        let control = self.sources.control.as_ref();
        let known = Known {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION"),
            name: self.plan.identity.name.as_deref(),
            verbosity: self.log.einhorn_verbosity(),
            plan: &self.plan,
            addresses: &addresses,
            socket_path: socket_path.as_deref(),
            pid_of: &|child| self.children.pid(child),
            ping_of: &|child| control.and_then(|control| control.ping_of(child)),
            time_before: &|age: Nanos| time_text(SystemTime::now() - Duration::from_nanos(age)),
            time_at: &|seconds: f64| time_text(SystemTime::UNIX_EPOCH + Duration::from_secs_f64(seconds)),
        };
        einhorn::reply(word, answer, &known)
    }

    fn socket_lines(&self) -> Vec<SocketLine> {
        let line = |number: usize| {
            let id = SocketId(number as u16);
            let facts = self.sockets.facts(id);
            SocketLine {
                name: facts.name.clone(),
                kind: facts.kind,
                address: facts.address.clone(),
                inherited: facts.inherited,
                queue: self.sockets.queue(id),
            }
        };
        (0..self.plan.sockets.len()).filter(|n| !self.plan.sockets[*n].retired).map(line).collect()
    }

    /// Log and subscribers.
    pub(super) fn publish(&mut self, line: &EventLine) {
        self.log.write(line);
        self.show(line);
    }

    fn show(&mut self, line: &EventLine) {
        if let Some(control) = &mut self.sources.control
            && control.has_subscribers()
        {
            control.publish(&line.json(Some(&timestamp())));
        }
    }

    pub(super) fn report_line(&mut self, happening: &Happening) {
        let mut line = self.line(happening);
        if self.ran_out_of_memory(happening) {
            line.message += ": out of memory, the kernel killed it";
            line.fields.insert("out_of_memory".into(), true.into());
        }
        let upgrade = self.sources.control.as_ref().is_some_and(|control| control.shows_upgrade());
        if !self.log.is_einhorns() {
            if upgrade && line.level != Level::Debug {
                self.show_upgrade(line.level, &line.message);
            }
            self.publish(&line);
            return;
        }
        let children = &self.children;
        let pid_of = |child: ChildId| children.pid(child);
        for said in self.teller.tell(happening, &pid_of, &line) {
            self.log.say(said.level, line.event, said.text.clone());
            if upgrade && said.upgrade {
                self.show_upgrade(said.level, &said.text);
            }
        }
        self.show(&line);
    }

    /// Whether a worker ended because its control group has no memory left.
    fn ran_out_of_memory(&mut self, happening: &Happening) -> bool {
        let killed = Ended::Signal(Signal::KILL);
        matches!(happening, Happening::Exited { how, unexpected: true, .. } if *how == killed)
            && self.oom.killed_since()
    }

    fn show_upgrade(&mut self, level: Level, text: &str) {
        let error = if level == Level::Error { "ERROR: " } else { "" };
        if let Some(control) = &mut self.sources.control {
            control.show_upgrade(&format!("{error}{text}"));
        }
    }

    fn line(&self, happening: &Happening) -> EventLine {
        let names = Names {
            service: &|id| self.plan.service(id).name.as_str(),
            sockets: &|id| {
                let ids = self.plan.service(id).sockets.iter();
                ids.map(|id| self.plan.socket(*id).name.as_str()).collect()
            },
        };
        event(happening, &names, &|child| self.children.pid(child))
    }
}

/// As Ruby's YAML writes a time.
fn time_text(time: SystemTime) -> String {
    humantime::format_rfc3339_nanos(time).to_string().replace('T', " ").replace('Z', " +00:00")
}
