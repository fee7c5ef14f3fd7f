use super::super::lex::{Entry, lex, merge};
use super::*;
use crate::plan::{Address, SocketKind, SocketOptions};

fn sockets() -> Vec<SocketSpec> {
    let one = |name: &str| SocketSpec {
        name: name.into(),
        named: true,
        kind: SocketKind::Stream,
        address: Address::Abstract(name.into()),
        options: SocketOptions::default(),
        origin: Origin::Default,
        retired: false,
        since: 0,
    };
    vec![one("web"), one("api-2")]
}

fn environment() -> Variables {
    let pairs = [("HOME", "/x"), ("Port", "80"), ("TRAP", "{SOCKET:web}"), ("HOME", "/home")];
    Variables::new(&pairs.map(|(name, value)| (name.to_string(), value.to_string())))
}

/// The text with what is filled in, in a form that shows it.
fn filled(text: &str) -> (String, Said) {
    let mut said = Said::default();
    let file = b"[watcher:App]\ncmd=x\nWorking_Dir=/srv\nport=$(circus.env.port)\n";
    let section = merge(lex("c.ini", file, &mut said), &mut said).remove(0);
    let (variables, sockets) = (environment(), sockets());
    let scope = Scope { variables: &variables, section: &section, sockets: &sockets };
    let Template(pieces) = scope.fill(text, &Origin::Argument(1), &mut said);
    let shown = pieces.iter().map(|piece| match piece {
        Piece::Text(text) => text.to_string_lossy().into_owned(),
        Piece::Socket(SocketRef::At(SocketId(n))) => format!("<fd {n}>"),
        Piece::Wid => "<wid>".into(),
        Piece::Slot => "<slot>".into(),
        other => format!("<{other:?}>"),
    });
    (shown.collect(), said)
}

#[test]
fn every_spelling() {
    for (text, expected) in [
        ("--fd $(circus.sockets.web)", "--fd <fd 0>"),
        ("((circus.sockets.API-2))x", "<fd 1>x"),
        ("${circus.sockets.web}${socket:Web}${SOCKET:web}", "<fd 0><fd 0><fd 0>"),
        ("{SOCKET:web}<SOCKET:Api-2>{SLOT}", "<fd 0><fd 1><slot>"),
        ("$(CIRCUS.WID) $(circus.Env.home)", "<wid> /home"),
        ("$(circus.working_dir):$(circus.port):$(circus.name):$(circus.numprocesses)", "/srv:80:App:1"),
        ("$(circus.env.trap)", "{SOCKET:web}"),
        ("é$(circus.wid)é", "é<wid>é"),
    ] {
        let (shown, said) = filled(text);
        assert_eq!((shown.as_str(), said.problems.len(), said.remarks.len()), (expected, 0, 0), "{text}: {said:?}");
    }
}

#[test]
fn what_is_not_known() {
    for text in ["$(circus.nonsense)", "((circus.env.NONE))"] {
        let (shown, said) = filled(text);
        assert_eq!(shown, text);
        assert!(said.remarks[0].message.contains("stays as it stands"), "{said:?}");
    }
    for text in ["$(circus.)", "$(circus.a b)", "$(other.wid)", "${circus.wid", "$(date)", "{\"a\":1}"] {
        let (shown, said) = filled(text);
        assert_eq!((shown.as_str(), said.remarks.len(), said.problems.len()), (text, 0, 0), "{text}");
    }
    for text in ["$(circus.sockets.wbe)", "{SOCKET:wbe}", "${socket:wbe}"] {
        let (_, said) = filled(text);
        let problem = said.problems[0].to_string();
        assert_eq!(problem, "argument 1: unknown socket 'wbe' (did you mean web?)", "{text}");
    }
    assert!(filled("{SOCKET:}").1.problems[0].message.contains("names no socket"));
}

#[test]
fn dollars_of_variables() {
    for (text, expected) in [
        ("$HOME/x", "/home/x"),
        ("a$NONE/b", "a/b"),
        ("$home$1 $", "$home$1 $"),
        ("$HOME$HOME", "/home/home"),
        ("${HOME}", "${HOME}"),
    ] {
        assert_eq!(environment().fill_dollars(text), expected, "{text}");
    }
}

#[test]
fn elsewhere_only_the_environment_is_filled_in() {
    let mut said = Said::default();
    let text = environment().fill_environment("$(circus.env.PORT)$(circus.wid)", &Origin::Default, &mut said);
    assert_eq!((text.as_str(), said.remarks.len()), ("80$(circus.wid)", 1));
}

#[test]
fn an_option_that_is_named_is_known() {
    let entry = |key: &str, value: &str| Entry { key: key.into(), value: value.into(), origin: Origin::Default };
    let entries = vec![entry("cmd", "x $(circus.Color)"), entry("color", "red")];
    let section = Section { name: "watcher:a".into(), entries, origin: Origin::Default };
    let (variables, sockets) = (environment(), sockets());
    let scope = Scope { variables: &variables, section: &section, sockets: &sockets };
    assert!(scope.names("color") && !scope.names("cmd"));
}
