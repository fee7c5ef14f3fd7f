//! The names under which prebind leaves descriptors with the manager above it (FDNAME=). They tell what each is when it
//! comes back in LISTEN_FDS after a restart: `prebind-socket/KIND/ADDRESS/NAME` for a socket that prebind bound, as it
//! was asked for (NAME only where several may have one address), and `prebind-stored/SERVICE/SLOT/POLL/NAME` for what a worker left with prebind; POLL is 0 after
//! FDPOLL=0, else 1. In each part `%`, `/`, `:` and all but printable ASCII characters are written `%XX`. Pure.

const SOCKET: &str = "prebind-socket/";
const STORED: &str = "prebind-stored/";
/// The longest name that a manager takes.
const BYTES_MAX: usize = 255;

/// What a worker left with prebind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its service's name.
    pub service: String,
    /// Its slot.
    pub slot: u32,
    /// The name that the worker gave it.
    pub name: String,
    /// FDPOLL=0.
    pub unwatched: bool,
}

/// Whether prebind left it there.
pub fn is_ours(name: &str) -> bool {
    name.starts_with(SOCKET) || name.starts_with(STORED)
}

/// The name of a socket that was asked for in these words; `None`: it would be too long.
pub fn socket_name(kind: &str, address: &str, name: &str) -> Option<String> {
    fits(format!("{SOCKET}{}/{}/{}", escaped(kind), escaped(address), escaped(name)))
}

impl Stored {
    /// The name of it; `None`: it would be too long.
    pub fn encode(&self) -> Option<String> {
        let Stored { service, slot, name, unwatched } = self;
        let poll = if *unwatched { 0 } else { 1 };
        fits(format!("{STORED}{}/{slot}/{poll}/{}", escaped(service), escaped(name)))
    }

    /// What a name says; `None`: it is no such name.
    pub fn decode(text: &str) -> Option<Stored> {
        let mut parts = text.strip_prefix(STORED)?.split('/');
        let (service, slot, poll, name) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let unwatched = match poll {
            "0" => true,
            "1" => false,
            _ => return None,
        };
        let stored =
            Stored { service: unescaped(service)?, slot: slot.parse().ok()?, name: unescaped(name)?, unwatched };
        parts.next().is_none().then_some(stored)
    }
}

fn fits(name: String) -> Option<String> {
    (name.len() <= BYTES_MAX).then_some(name)
}

fn escaped(text: &str) -> String {
    let plain = |byte: u8| matches!(byte, b' '..=b'~') && !b"%/:".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_stored_is_told_apart_and_taken_apart() {
        for (service, slot, name, unwatched, text) in [
            ("web", 0, "stored", false, "prebind-stored/web/0/1/stored"),
            ("web.service", 12, "", true, "prebind-stored/web.service/12/0/"),
            (
                "a/b:c%\u{e9}",
                4_294_967_295,
                "my fd/%",
                false,
                "prebind-stored/a%2Fb%3Ac%25%C3%A9/4294967295/1/my fd%2F%25",
            ),
        ] {
            let stored = Stored { service: service.into(), slot, name: name.into(), unwatched };
            assert_eq!(stored.encode().as_deref(), Some(text));
            assert_eq!(Stored::decode(text), Some(stored));
            assert!(is_ours(text));
        }
        let long = Stored { service: "s".repeat(250), slot: 0, name: "n".into(), unwatched: false };
        assert_eq!(long.encode(), None);
        for text in [
            "web",
            "prebind-stored/",
            "prebind-stored/a/0/1",
            "prebind-stored/a/0/2/b",
            "prebind-stored/a/x/1/b",
            "prebind-stored/a/0/1/b/c",
            "prebind-stored/a%/0/1/b",
            "prebind-stored/a%FF/0/1/b",
            "prebind-socket/a/0/1/b",
        ] {
            assert_eq!(Stored::decode(text), None, "{text}");
        }
    }

    #[test]
    fn sockets_are_named_by_what_was_asked_for() {
        assert_eq!(socket_name("tcp", "127.0.0.1:0", "web").as_deref(), Some("prebind-socket/tcp/127.0.0.1%3A0/web"));
        assert_ne!(socket_name("unix", "a", "b/c"), socket_name("unix", "a/b", "c"));
        assert!(is_ours(&socket_name("unix", "@x", "").unwrap()));
        assert_eq!(socket_name("unix", &"/".repeat(100), ""), None);
        assert!(!is_ours("prebind-socket") && !is_ours("web"));
    }
}
