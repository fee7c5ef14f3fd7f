//! Requests in einhorn's words: who waits for what, and the lines of an upgrade.

use super::super::connection::{UNSENT_BYTES_MAX, Waiting};
use super::super::einhorn::{self, Ping, Word};
use super::super::wire::Reply;
use super::{Incoming, Server};
use crate::plan::Manner;
use crate::supervise::{AskId, ChildId};
use serde_json::Value;

impl Server {
    /// Whose language a request speaks that does not tell.
    pub fn keep_manner(&mut self, manner: Manner) {
        self.einhorn = manner == Manner::Einhorn;
    }

    /// The einhorn word that a request was made in.
    pub fn word_of(&self, ask: AskId) -> Option<&Word> {
        let waiting = self.connections.iter().flat_map(|connection| &connection.asks);
        waiting.filter(|one| one.ask == ask).find_map(|one| one.word.as_ref())
    }

    /// Acks and pings for nobody, a line each; said once.
    pub fn take_unheard(&mut self) -> Vec<String> {
        std::mem::take(&mut self.unheard)
    }

    /// A worker's last ping.
    pub fn ping_of(&self, child: ChildId) -> Option<&Ping> {
        self.pings.get(&child)
    }

    /// Whether somebody waits for an upgrade in einhorn's words.
    pub fn shows_upgrade(&self) -> bool {
        let waiting = self.connections.iter().flat_map(|connection| &connection.asks);
        waiting.into_iter().any(|one| matches!(one.word, Some(Word::Upgrade(_))))
    }

    /// A line of an upgrade for everybody who asked for it in einhorn's words. Who does not read loses it.
    pub fn show_upgrade(&mut self, message: &str) {
        for connection in &mut self.connections {
            let upgrades = connection.asks.iter().filter(|one| matches!(one.word, Some(Word::Upgrade(_))));
            let reply = |one: &Waiting| Reply { id: one.id.as_ref(), ok: true, message, wait: true, data: None }.line();
            let lines: String = upgrades.map(reply).collect();
            if connection.unsent() + lines.len() <= UNSENT_BYTES_MAX {
                connection.send(lines.as_bytes());
            }
        }
    }

    /// A request in einhorn's words. An upgrade is answered at once, and with an id again until it is over.
    pub(super) fn spoken(&mut self, index: usize, id: Option<Value>, word: Word) -> Incoming {
        let command = word.command();
        if let Word::Upgrade(strategy) = word {
            let (message, wait) = (einhorn::begun(strategy), id.is_some());
            self.connections[index].reply(Reply { id: id.as_ref(), ok: true, message, wait, data: None });
        }
        let answered = id.is_none() && matches!(word, Word::Upgrade(_));
        let ask = if answered { self.new_ask() } else { self.waits(index, id, Some(word.clone())) };
        command.map_or(Incoming::Local(ask, word), |command| Incoming::Ask(ask, command))
    }
}
