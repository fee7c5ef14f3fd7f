//! What the loop noticed, and what follows from it at once: ends of children, paths that vanished, files to open anew; and
//! what is told of it.

use super::children::{self, Role};
use super::{Level, Linux};
use crate::control::event::EventLine;
use crate::supervise::{Event, Happening};

impl Linux {
    pub(super) fn report(&mut self, happening: &Happening) {
        self.report_line(happening);
        match happening {
            Happening::Ready(who, _) => self.looks.forget(who.child),
            Happening::AllReady => {
                self.oom.begin();
                self.trim_due = true;
            }
            Happening::UpgradeDone { .. } => self.trim_due = true,
            _ => {}
        }
    }

    /// Children that ended while another program had this process.
    pub(super) fn reap_missing(&mut self, events: &mut Vec<Event>) {
        let watched: Vec<i32> = self.sources.mains().map(|(_, watch)| watch.pid()).collect();
        let missing = self.children.take_missing(&watched);
        events.extend(missing.into_iter().map(|exit| ended(exit, false)));
    }

    /// Every child that ended since.
    pub(super) fn reap(&mut self, events: &mut Vec<Event>) {
        while let Some(exit) = self.children.reap() {
            let foreground = self.terminal.as_ref().is_some_and(|terminal| terminal.has(exit.pid));
            if exit.role == Role::Main {
                self.sources.leave_main(exit.child);
            }
            if foreground && let Some(terminal) = &self.terminal {
                terminal.take_back();
            }
            events.push(ended(exit, foreground));
        }
    }

    /// USR1.
    pub(super) fn reopen(&mut self) {
        if self.logs.reopen() {
            self.say(Level::Info, "reopen", "USR1: log files are opened anew".into());
        } else {
            let message = "USR1: there are no log files to reopen (prebind's own log is on stderr)";
            self.say(Level::Debug, "reopen", message.into());
        }
    }

    pub(super) fn tell_probes(&mut self, ready: bool) {
        if let Err(why) = self.health.tell(ready) {
            self.say(Level::Error, "health_file", why);
        }
    }

    pub(super) fn restore_paths(&mut self) {
        for message in self.sockets.restore_paths() {
            let fields = serde_json::Map::new();
            self.publish(&EventLine { level: Level::Warn, event: "path_restored", message, fields });
        }
    }
}

/// A child's end, of whichever of its processes.
pub(super) fn ended(exit: children::Exit, foreground: bool) -> Event {
    let children::Exit { child, role, how, group_left, .. } = exit;
    match role {
        Role::Main => Event::Exited { child, how, group_left, foreground },
        Role::Step => Event::StepEnded { child, how, group_left },
    }
}
