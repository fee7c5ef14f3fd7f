//! What descriptors 0, 1 and 2 are: StandardInput=, StandardOutput=, StandardError=, and the data for the first. The journal,
//! the kernel's log and terminals are not here: prebind's own descriptor takes their place, and that is said.

use super::Remark;
use super::lex::Assignment;
use super::process::Context;
use super::words::unescape;
use crate::plan::{ProcessSpec, Stdio};

/// What the lines have said so far. `None` of an output is what systemd has by default.
#[derive(Default)]
pub(super) struct Streams {
    input: Option<Input>,
    output: Option<Output>,
    error: Option<Output>,
    data: Vec<u8>,
}

enum Input {
    Is(Stdio),
    Data,
}

enum Output {
    Is(Stdio),
    /// What the descriptor before it is.
    Inherit,
}

impl Streams {
    /// `None`: the key is not of this table.
    pub(super) fn take(
        &mut self,
        one: &Assignment,
        context: Context<'_>,
        remarks: &mut Vec<Remark>,
    ) -> Option<Result<(), String>> {
        let value = one.value.as_str();
        Some(match one.key.as_str() {
            "StandardInput" => input(one, context, remarks).map(|input| self.input = Some(input)),
            "StandardOutput" => output(one, "stdout", context, remarks).map(|output| self.output = Some(output)),
            "StandardError" => output(one, "stderr", context, remarks).map(|error| self.error = Some(error)),
            "StandardInputText" | "StandardInputData" if value.is_empty() => {
                self.data.clear();
                Ok(())
            }
            "StandardInputText" => unescape(value).and_then(|text| context.expand(&text)).map(|text| {
                self.data.extend(text.as_bytes());
                self.data.push(b'\n');
            }),
            "StandardInputData" => base64(value).map(|bytes| self.data.extend(bytes)),
            _ => return None,
        })
    }

    pub(super) fn finish(self, process: &mut ProcessSpec) {
        let Streams { input, output, error, data } = self;
        process.stdin = match input {
            Some(Input::Is(stdio)) => stdio,
            Some(Input::Data) => Stdio::Data(data),
            None if data.is_empty() => Stdio::Null,
            None => Stdio::Data(data),
        };
        // A socket on descriptor 0 is meant for all three, unless something else is said.
        let before = match process.stdin {
            Stdio::Socket => Stdio::Socket,
            _ => Stdio::Input,
        };
        process.stdout = match output {
            Some(Output::Is(stdio)) => stdio,
            Some(Output::Inherit) => before,
            None if process.stdin == Stdio::Socket => Stdio::Socket,
            None => Stdio::Own,
        };
        process.stderr = match error {
            Some(Output::Is(stdio)) => stdio,
            Some(Output::Inherit) | None => process.stdout.clone(),
        };
    }
}

fn input(one: &Assignment, context: Context<'_>, remarks: &mut Vec<Remark>) -> Result<Input, String> {
    let value = one.value.as_str();
    Ok(Input::Is(match value {
        "null" => Stdio::Null,
        "socket" => Stdio::Socket,
        "data" => return Ok(Input::Data),
        "tty" | "tty-force" | "tty-fail" => {
            remarks.push(instead(one, "prebind's own standard input"));
            Stdio::Own
        }
        _ => match common(value, "stdin", context) {
            Some(stdio) => stdio?,
            None => return Err(unknown(value)),
        },
    }))
}

fn output(one: &Assignment, stream: &str, context: Context<'_>, remarks: &mut Vec<Remark>) -> Result<Output, String> {
    let value = one.value.as_str();
    let path = |path: &str| context.path(path);
    Ok(Output::Is(match value {
        "inherit" => return Ok(Output::Inherit),
        "null" => Stdio::Null,
        "socket" => Stdio::Socket,
        "journal" => {
            remarks.push(Remark { warning: false, ..instead(one, "prebind's own") });
            Stdio::Own
        }
        "tty" | "kmsg" | "syslog" | "journal+console" | "kmsg+console" | "syslog+console" => {
            remarks.push(instead(one, "prebind's own"));
            Stdio::Own
        }
        _ => match (value.strip_prefix("append:"), value.strip_prefix("truncate:")) {
            (Some(file), _) => Stdio::Append(path(file)?),
            (_, Some(file)) => Stdio::Truncate(path(file)?),
            (None, None) => match common(value, stream, context) {
                Some(stdio) => stdio?,
                None => return Err(unknown(value)),
            },
        },
    }))
}

/// What both directions have.
fn common(value: &str, stream: &str, context: Context<'_>) -> Option<Result<Stdio, String>> {
    if let Some(path) = value.strip_prefix("file:") {
        return Some(context.path(path).map(Stdio::File));
    }
    let name = if value == "fd" { stream } else { value.strip_prefix("fd:")? };
    Some(context.expand(name).map(Stdio::Named))
}

fn unknown(value: &str) -> String {
    format!("'{value}' is nothing that a standard descriptor can be")
}

fn instead(one: &Assignment, what: &str) -> Remark {
    Remark::warn(one.origin.clone(), format!("{}={}: {what} is taken instead", one.key, one.value))
}

/// RFC 4648, with blanks anywhere.
fn base64(text: &str) -> Result<Vec<u8>, String> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let wrong = || "it is no base64".to_string();
    let letters: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let (groups, rest) = letters.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(wrong());
    }
    let mut bytes = Vec::with_capacity(groups.len() * 3);
    for (at, group) in groups.iter().enumerate() {
        let padding = group.iter().rev().take_while(|byte| **byte == b'=').count();
        if padding > 2 || (padding > 0 && at + 1 < groups.len()) {
            return Err(wrong());
        }
        let mut number = 0_u32;
        for letter in &group[..4 - padding] {
            let value = ALPHABET.iter().position(|known| known == letter).ok_or_else(wrong)?;
            number = number << 6 | value as u32;
        }
        number <<= 6 * padding as u32;
        bytes.extend_from_slice(&number.to_be_bytes()[1..4 - padding]);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::lex::lex;
    use super::super::name::UnitName;
    use super::*;

    fn read(text: &str) -> (ProcessSpec, Vec<String>) {
        let mut remarks = Vec::new();
        let name = UnitName::parse("web.service").unwrap();
        let context = Context { name: &name, outside: &|_| None };
        let mut streams = Streams::default();
        for one in lex("web.service", format!("[Service]\n{text}").as_bytes(), &mut Vec::new()) {
            if let Err(why) = streams.take(&one, context, &mut remarks).expect("of this table") {
                remarks.push(Remark::warn(one.origin.clone(), why));
            }
        }
        let mut process = ProcessSpec::default();
        streams.finish(&mut process);
        (process, remarks.iter().map(Remark::to_string).collect())
    }

    #[test]
    fn each_word_has_its_descriptor() {
        use Stdio::{Append, Data, File, Input, Named, Null, Own, Socket, Truncate};
        let file = || "/x y".into();
        for (text, input, output, error) in [
            ("", Null, Own, Own),
            ("StandardInput=socket", Socket, Socket, Socket),
            ("StandardInput=socket\nStandardError=journal", Socket, Socket, Own),
            ("StandardInput=socket\nStandardOutput=null", Socket, Null, Null),
            ("StandardOutput=inherit", Null, Input, Input),
            ("StandardInput=socket\nStandardOutput=inherit", Socket, Socket, Socket),
            ("StandardInput=file:/x y\nStandardOutput=append:/x y", File(file()), Append(file()), Append(file())),
            ("StandardOutput=truncate:/x y\nStandardError=file:/x y", Null, Truncate(file()), File(file())),
            (
                "StandardInput=fd:a\nStandardOutput=fd:b\nStandardError=fd",
                Named("a".into()),
                Named("b".into()),
                Named("stderr".into()),
            ),
            ("StandardInputText=a\\x41 \nStandardInputData=QUJD REU=", Data(b"aA\nABCDE".to_vec()), Own, Own),
            ("StandardInput=data", Data(vec![]), Own, Own),
            ("StandardInputText=a\nStandardInput=null", Null, Own, Own),
        ] {
            let (process, remarks) = read(text);
            assert_eq!((process.stdin, process.stdout, process.stderr), (input, output, error), "{text}");
            assert!(remarks.iter().all(|one| one.contains("journal")), "{remarks:?}");
        }
    }

    #[test]
    fn what_is_not_had_is_said() {
        let text = "StandardInput=tty\nStandardOutput=kmsg\nStandardError=nowhere\nStandardOutput=file:x\nStandardInputData=%%%\n\
                    StandardInputData=QQ==QUJD";
        let (process, remarks) = read(text);
        assert_eq!((process.stdin, process.stdout), (Stdio::Own, Stdio::Own));
        assert_eq!(
            remarks,
            [
                "web.service:2: StandardInput=tty: prebind's own standard input is taken instead",
                "web.service:3: StandardOutput=kmsg: prebind's own is taken instead",
                "web.service:4: 'nowhere' is nothing that a standard descriptor can be",
                "web.service:5: 'x' is no absolute path",
                "web.service:6: it is no base64",
                "web.service:7: it is no base64",
            ]
        );
        assert_eq!(base64("QUJDRA==").unwrap(), b"ABCD");
        assert_eq!(base64("").unwrap(), b"");
    }
}
