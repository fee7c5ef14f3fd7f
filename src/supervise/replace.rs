//! prebind's own replacement: the whole state as plain data, taken over by the next program in this process. Children,
//! requests and deadlines keep their names and times: the monotonic clock goes on.

use super::service::Service;
use super::{Action, Answer, AskId, Happening, Supervisor};
use crate::plan::{Plan, ServiceId};
use serde_json::Value;

impl Supervisor {
    /// Everything, as data.
    pub fn freeze(&self) -> Result<Value, String> {
        serde_json::to_value(self).map_err(|error| format!("the state cannot be written: {error}"))
    }

    /// What `freeze` gave, in the plan as it is read now. The policies are the plan's.
    pub fn thaw(plan: &Plan, state: Value) -> Result<Supervisor, String> {
        let mut supervisor: Supervisor = serde_json::from_value(state)
            .map_err(|error| format!("the supervisor's state is not understood: {error}"))?;
        let names: Vec<&str> = supervisor.services.iter().map(|service| service.name.as_str()).collect();
        let planned: Vec<&str> = plan.services.iter().map(|service| service.name.as_str()).collect();
        if names != planned {
            return Err(format!("the services are {}, not {}", planned.join(", "), names.join(", ")));
        }
        for (n, service) in supervisor.services.iter_mut().enumerate() {
            service.policy = Service::new(ServiceId(n as u16), plan).policy;
        }
        Ok(supervisor)
    }

    /// Whether the program is to be replaced before anything else happens.
    pub fn wants_replacement(&self) -> bool {
        self.replacing.is_some() && self.ended.is_none()
    }

    pub(super) fn asked_to_replace(&mut self, ask: AskId, out: &mut Vec<Action>) {
        let refused = match (&self.stopping, self.replacing) {
            (Some(_), _) => "prebind is stopping",
            (None, Some(_)) => "prebind is being replaced already",
            (None, None) => {
                self.replacing = Some(ask);
                return;
            }
        };
        out.push(Action::Answer(ask, Answer::Refused(refused.into())));
    }

    pub(super) fn replaced(&mut self, out: &mut Vec<Action>) {
        out.push(Action::Report(Happening::Replaced));
        let message = "prebind was replaced in place, the workers went on";
        out.extend(self.replacing.take().map(|ask| Action::Answer(ask, Answer::Done(message.into()))));
    }

    pub(super) fn replace_failed(&mut self, why: &str, out: &mut Vec<Action>) {
        out.push(Action::Report(Happening::ReplaceFailed(why.into())));
        let message = format!("prebind was not replaced, nothing changed: {why}");
        out.extend(self.replacing.take().map(|ask| Action::Answer(ask, Answer::Refused(message))));
    }
}
