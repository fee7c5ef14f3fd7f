//! A directory of the test's own, removed at its end, which other users may enter.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

pub(crate) struct TempDir(PathBuf);

impl TempDir {
    pub(crate) fn new() -> TempDir {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("pb-{}-{count}", std::process::id()));
        std::fs::create_dir_all(&path).expect("temporary directory");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("its mode");
        TempDir(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// A path in it, as text for a command line.
    pub(crate) fn join(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("a UTF-8 temporary directory").to_owned()
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
