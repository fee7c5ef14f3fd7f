//! Words of circusctl, for whoever comes from there: answered from `status` and `options` and by `scale`. And `stats`: what
//! the workers cost, read from /proc, where the pids of `status` lead.

use super::line::service;
use super::table::{aligned, list, plain, span, word};
use super::{complain, width};
use crate::control::client::{Answered, Client, ClientError};
use crate::control::options;
use crate::exit::Exit;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use nix::unistd::{SysconfVar, sysconf};
use serde_json::{Value, json};
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// The commands that are answered here.
pub(super) const WORDS: [&str; 8] =
    ["incr", "decr", "numprocesses", "list", "listsockets", "numwatchers", "options", "stats"];
/// How often `stats --watch` looks.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// Their part of the table.
pub(super) fn commands() -> [Command; 8] {
    let step = |about: &'static str, name: &'static str| {
        let number = Arg::new("step").value_name("N").default_value("1").value_parser(value_parser!(u32));
        let service = Arg::new("service").value_name("SERVICE").help("Which service; the only one without");
        Command::new(name).about(about).args([service, number.help("So many")])
    };
    [
        step("Run N workers more (Circus's word for scale)", "incr"),
        step("Run N workers less", "decr"),
        Command::new("numprocesses").about("Print how many workers are asked for").arg(service()),
        Command::new("list").about("Print the services, or the pids of one's workers").arg(service()),
        Command::new("listsockets").about("Print each socket with its name and its address"),
        Command::new("numwatchers").about("Print how many services there are"),
        Command::new("options")
            .about("Print how a service is run, in Circus's words where it has them; of variables only the names")
            .arg(service()),
        Command::new("stats")
            .about("Show what each worker costs: CPU time, resident memory, descriptors")
            .arg(service())
            .arg(Arg::new("watch").long("watch").action(ArgAction::SetTrue).help("Again and again, each second")),
    ]
}

/// Asks what is needed, and prints the answer as circusctl does.
pub(super) fn converse(
    client: &mut Client,
    command: &str,
    options: &ArgMatches,
    out: &mut impl Write,
) -> Result<io::Result<Exit>, ClientError> {
    let named = options.try_get_one::<String>("service").ok().flatten().map(String::as_str);
    if command == "stats" {
        return stats(client, named, options, out);
    }
    let status = status(client)?;
    let services = match chosen(&status, named) {
        Ok(services) => services,
        Err(why) => return Ok(Ok(complain(&why, Exit::Failed))),
    };
    let as_json = options.get_flag("json");
    let answer = match command {
        "incr" | "decr" => {
            let by = i64::from(*options.get_one::<u32>("step").expect("it has a default"));
            return scale(client, &services, if command == "incr" { by } else { -by }, as_json, out);
        }
        "options" => {
            let reply = match services[..] {
                [service] => options_of(client, service)?,
                _ => return Ok(Ok(complain("which service? There are several", Exit::Failed))),
            };
            match reply.data {
                Some(data) if reply.ok => json!({ "options": data["options"] }),
                _ => return Ok(Ok(complain(&plain(&reply.message), Exit::Failed))),
            }
        }
        "numprocesses" => json!({ "numprocesses": services.iter().map(|one| count(one)).sum::<i64>() }),
        "list" if named.is_some() => json!({ "pids": services.iter().flat_map(|one| pids(one)).collect::<Vec<i64>>() }),
        "list" => json!({ "watchers": services.iter().map(|one| word(&one["name"])).collect::<Vec<String>>() }),
        "numwatchers" => json!({ "numwatchers": list(&status["services"]).len() }),
        _ => json!({ "sockets": list(&status["sockets"]).iter().map(socket).collect::<Vec<String>>() }),
    };
    Ok(print(&answer, as_json, out).map(|()| Exit::Done))
}

/// One value, whatever it is called: lists of words with commas, as circusctl, sockets a line each.
fn print(answer: &Value, as_json: bool, out: &mut impl Write) -> io::Result<()> {
    let Some((key, value)) = answer.as_object().and_then(|object| object.iter().next()).filter(|_| !as_json) else {
        return writeln!(out, "{answer}");
    };
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), plain);
    let parts: Vec<String> = list(value).iter().map(text).collect();
    match (value, key.as_str()) {
        (Value::Array(_), "sockets") => parts.iter().try_for_each(|line| writeln!(out, "{line}")),
        (Value::Array(_), _) => writeln!(out, "{}", parts.join(",")),
        (Value::Object(_), _) => options::lines(value).iter().try_for_each(|line| writeln!(out, "{}", plain(line))),
        (one, _) => writeln!(out, "{}", text(one)),
    }
}

/// The reply to `options`, of a service of `status`.
pub(super) fn options_of(client: &mut Client, service: &Value) -> Result<Answered, ClientError> {
    client.ask(&json!({ "command": "options", "id": 1, "options": { "service": service["name"] } }))?;
    client.reply()
}

pub(super) fn status(client: &mut Client) -> Result<Value, ClientError> {
    client.ask(&json!({ "command": "status", "id": 1, "options": {} }))?;
    Ok(client.reply()?.data.unwrap_or_default())
}

pub(super) fn chosen<'a>(status: &'a Value, named: Option<&str>) -> Result<Vec<&'a Value>, String> {
    let all = list(&status["services"]);
    let Some(name) = named else { return Ok(all.iter().collect()) };
    match all.iter().find(|one| one["name"].as_str().is_some_and(|own| own.eq_ignore_ascii_case(name))) {
        Some(one) => Ok(vec![one]),
        None => {
            let names: Vec<String> = all.iter().map(|one| word(&one["name"])).collect();
            Err(format!("there is no service {} (there is {})", plain(name), names.join(", ")))
        }
    }
}

fn scale(
    client: &mut Client,
    services: &[&Value],
    by: i64,
    as_json: bool,
    out: &mut impl Write,
) -> Result<io::Result<Exit>, ClientError> {
    let [service] = services else {
        return Ok(Ok(complain("which service? There are several", Exit::Failed)));
    };
    let number = (count(service) + by).max(0);
    client.ask(&json!({ "command": "scale", "id": 1, "options": { "service": service["name"], "number": number } }))?;
    let reply = client.reply()?;
    if !reply.ok {
        return Ok(Ok(complain(&plain(&reply.message), Exit::Failed)));
    }
    Ok(print(&json!({ "numprocesses": number }), as_json, out).map(|()| Exit::Done))
}

pub(super) fn count(service: &Value) -> i64 {
    service["number"].as_i64().unwrap_or(0)
}

pub(super) fn pids(service: &Value) -> Vec<i64> {
    list(&service["workers"]).iter().filter_map(|worker| worker["pid"].as_i64()).collect()
}

fn socket(socket: &Value) -> String {
    format!("{}: {} {}", word(&socket["name"]), word(&socket["kind"]), word(&socket["address"]))
}

/// What a process has cost, as /proc tells; what it does not tell is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Cost {
    cpu_seconds: Option<f64>,
    resident_kib: Option<u64>,
    descriptors: Option<usize>,
}

impl Cost {
    fn of(pid: i64) -> Cost {
        let folder = format!("/proc/{pid}");
        Cost {
            cpu_seconds: fs::read_to_string(format!("{folder}/stat")).ok().and_then(|text| cpu_seconds(&text)),
            resident_kib: fs::read_to_string(format!("{folder}/status")).ok().and_then(|text| resident_kib(&text)),
            descriptors: fs::read_dir(format!("{folder}/fd")).ok().map(Iterator::count),
        }
    }
}

/// User and system time of /proc/PID/stat, proc_pid_stat(5).
fn cpu_seconds(stat: &str) -> Option<f64> {
    let fields = stat.rsplit_once(')')?.1;
    let ticks = |n: usize| fields.split_whitespace().nth(n)?.parse::<u64>().ok();
    let per_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
    Some((ticks(11)? + ticks(12)?) as f64 / per_second as f64)
}

fn resident_kib(status: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.trim().strip_suffix(" kB")?.parse().ok()
}

fn stats(
    client: &mut Client,
    named: Option<&str>,
    options: &ArgMatches,
    out: &mut impl Write,
) -> Result<io::Result<Exit>, ClientError> {
    // CPU times of the last look, and when that was: without one it is the share since the start.
    let mut before: Option<(Instant, Vec<(i64, f64)>)> = None;
    loop {
        let status = status(client)?;
        let services = match chosen(&status, named) {
            Ok(services) => services,
            Err(why) => return Ok(Ok(complain(&why, Exit::Failed))),
        };
        let now = Instant::now();
        let rows: Vec<Row> = services.iter().flat_map(|service| rows(service, now, before.as_ref())).collect();
        let as_json = options.get_flag("json");
        let text =
            if as_json { format!("{}\n", json!(rows.iter().map(Row::json).collect::<Vec<_>>())) } else { table(&rows) };
        let clear =
            if options.get_flag("watch") && !as_json && io::stdout().is_terminal() { "\x1b[H\x1b[2J" } else { "" };
        if let Err(error) = write!(out, "{clear}{text}").and_then(|()| out.flush()) {
            return Ok(Err(error));
        }
        if !options.get_flag("watch") {
            return Ok(Ok(Exit::Done));
        }
        before = Some((now, rows.iter().filter_map(|row| Some((row.pid, row.cost.cpu_seconds?))).collect()));
        std::thread::sleep(WATCH_EVERY);
    }
}

pub(super) struct Row {
    service: String,
    slot: i64,
    pub(super) pid: i64,
    age_seconds: f64,
    cost: Cost,
    /// Of one CPU, percent.
    cpu_percent: Option<f64>,
}

impl Row {
    pub(super) fn json(&self) -> Value {
        json!({ "service": self.service, "slot": self.slot, "pid": self.pid, "age_seconds": self.age_seconds,
                "cpu_percent": self.cpu_percent, "cpu_seconds": self.cost.cpu_seconds,
                "resident_kib": self.cost.resident_kib, "descriptors": self.cost.descriptors })
    }
}

pub(super) fn rows(service: &Value, now: Instant, before: Option<&(Instant, Vec<(i64, f64)>)>) -> Vec<Row> {
    let row = |worker: &Value| {
        let pid = worker["pid"].as_i64()?;
        let (cost, age_seconds) = (Cost::of(pid), worker["age_seconds"].as_f64().unwrap_or(0.0));
        let last = before.and_then(|(at, all)| Some((*at, all.iter().find(|(of, _)| *of == pid)?.1)));
        let (since, span) = last.map_or((0.0, age_seconds), |(at, cpu)| (cpu, (now - at).as_secs_f64()));
        let cpu_percent = cost.cpu_seconds.filter(|_| span > 0.0).map(|cpu| 100.0 * (cpu - since).max(0.0) / span);
        let slot = worker["slot"].as_i64().unwrap_or(0);
        Some(Row { service: word(&service["name"]), slot, pid, age_seconds, cost, cpu_percent })
    };
    list(&service["workers"]).iter().filter_map(row).collect()
}

fn table(rows: &[Row]) -> String {
    let known = |text: Option<String>| text.unwrap_or_else(|| "-".into());
    let mut lines = vec![["SERVICE", "SLOT", "PID", "CPU", "MEMORY", "FDS", "AGE"].map(String::from)];
    lines.extend(rows.iter().map(|row| {
        [
            row.service.clone(),
            row.slot.to_string(),
            row.pid.to_string(),
            known(row.cpu_percent.map(|percent| format!("{percent:.1}%"))),
            known(row.cost.resident_kib.map(|kib| format!("{:.1}M", kib as f64 / 1024.0))),
            known(row.cost.descriptors.map(|count| count.to_string())),
            span(Some(row.age_seconds)),
        ]
    }));
    let lines = aligned(&lines, [false, true, true, true, true, true, true]);
    lines.iter().map(|line| format!("{}\n", line.chars().take(width()).collect::<String>())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_proc_says() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 1 2 3 4 150 50 0 0 20 0 1 0 5 6 7";
        assert_eq!(cpu_seconds(stat), Some(200.0 / sysconf(SysconfVar::CLK_TCK).unwrap().unwrap() as f64));
        assert_eq!(resident_kib("Name:\tx\nVmRSS:\t    2048 kB\n"), Some(2048));
        let own = Cost::of(i64::from(std::process::id()));
        assert!(own.cpu_seconds.is_some() && own.resident_kib > Some(100) && own.descriptors > Some(2), "{own:?}");
        assert_eq!(Cost::of(-1), Cost::default());
    }

    #[test]
    fn services_are_found_as_circus_finds_them() {
        let status = json!({"services": [
            {"name": "Web", "number": 2, "workers": [{"pid": 5, "slot": 0}, {"pid": null, "slot": 1}]}, {"name": "b"}]});
        let one = chosen(&status, Some("web")).expect("whatever its case");
        assert_eq!((one.len(), count(one[0]), pids(one[0])), (1, 2, vec![5]));
        assert_eq!(chosen(&status, None).map(|all| all.len()), Ok(2));
        assert!(chosen(&status, Some("wep")).unwrap_err().contains("there is Web, b"));
        assert_eq!(rows(one[0], Instant::now(), None).len(), 1, "who has no process costs nothing");
    }
}
