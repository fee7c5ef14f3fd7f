//! Folders of the tests: paths and their contents. `-> PATH` is a link, also to /dev/null; `secret` cannot be read.

use super::find::{Folders, Found};

pub(super) struct Memory(pub(super) Vec<(&'static str, &'static str)>);

impl Memory {
    fn text(&self, path: &str) -> Option<&'static str> {
        self.0.iter().find(|(known, _)| *known == path).map(|(_, text)| *text)
    }
}

impl Folders for Memory {
    fn read(&self, path: &str) -> Option<Found> {
        let text = self.text(path)?;
        match text.strip_prefix("-> ") {
            Some("/dev/null") => return Some(Found::Masked),
            Some(target) => return self.read(target),
            None => {}
        }
        Some(match text {
            "" => Found::Masked,
            "secret" => Found::Unreadable("permission denied".into()),
            text => Found::File(text.as_bytes().to_vec()),
        })
    }

    fn list(&self, folder: &str) -> Vec<String> {
        let inside = |path: &str| path.strip_prefix(folder)?.strip_prefix('/').map(str::to_string);
        let names = self.0.iter().filter_map(|(path, _)| inside(path)).filter(|name| !name.contains('/'));
        names.collect()
    }

    fn is_folder(&self, path: &str) -> bool {
        self.0.iter().any(|(known, _)| known.strip_prefix(path).is_some_and(|rest| rest.starts_with('/')))
    }

    fn target(&self, path: &str) -> Option<String> {
        self.text(path)?.strip_prefix("-> ").map(str::to_string)
    }
}
