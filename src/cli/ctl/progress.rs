//! An upgrade as it goes: a bar on stderr where that is a terminal, lines otherwise. Receives a connection that was asked
//! for events and for an upgrade, hands on the upgrade's reply.

use super::table::plain;
use crate::control::client::{Answered, Client, ClientError};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use std::io::{self, IsTerminal, Write};

/// The id under which events are asked for; the upgrade's is another one.
pub(super) const EVENTS: u64 = 2;

/// Follows the events until the upgrade's own reply comes.
pub(super) fn follow(client: &mut Client) -> Result<Answered, ClientError> {
    let mut shown = Shown::new(io::stderr().is_terminal());
    loop {
        let reply = client.reply()?;
        if reply.id != Some(EVENTS) {
            shown.end();
            return Ok(reply);
        }
        if let Some(event) = &reply.data {
            shown.event(event);
        }
    }
}

enum Shown {
    Bar(ProgressBar),
    Lines,
}

impl Shown {
    fn new(terminal: bool) -> Shown {
        if !terminal {
            return Shown::Lines;
        }
        let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} replaced  {msg}");
        let bar = ProgressBar::new(1);
        Shown::Bar(bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())))
    }

    fn event(&mut self, event: &Value) {
        let kind = event["event"].as_str().unwrap_or_default();
        let message = plain(event["message"].as_str().unwrap_or_default());
        match self {
            Shown::Bar(bar) if kind == "upgrade_progress" => {
                bar.set_length(event["of"].as_u64().unwrap_or(1));
                bar.set_position(event["replaced"].as_u64().unwrap_or(0));
                bar.set_message(format!("{} ready", event["ready"]));
            }
            Shown::Bar(bar) if is_news(event) => bar.println(message),
            // With stderr closed the reply still says how it ended.
            Shown::Lines if kind == "upgrade_progress" || is_news(event) => {
                let _ = writeln!(io::stderr(), "{message}");
            }
            Shown::Bar(_) | Shown::Lines => {}
        }
    }

    fn end(&self) {
        if let Shown::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

/// What is worth a line beside the bar. How it ends is in the reply.
fn is_news(event: &Value) -> bool {
    match event["event"].as_str().unwrap_or_default() {
        "upgrade_begun" | "upgrade_baking" | "spawn_failed" | "worker_start_timeout" => true,
        "worker_exited" => event["unexpected"] == true,
        _ => false,
    }
}
