//! What was fetched for which list: fetched again when the list changes, and when fetching did not come to its end.

use std::path::{Path, PathBuf};

/// A file that says what lies beside it.
pub struct Stamp {
    path: PathBuf,
    wanted: String,
}

impl Stamp {
    /// Of what `list` asks for, fetched into `folder`.
    pub fn new(folder: &Path, list: &Path) -> Result<Self, String> {
        let wanted = std::fs::read_to_string(list).map_err(|error| format!("{}: {error}", list.display()))?;
        Ok(Self { path: folder.join("installed"), wanted })
    }

    /// Whether everything is there already.
    pub fn holds(&self) -> bool {
        std::fs::read_to_string(&self.path).is_ok_and(|installed| installed == self.wanted)
    }

    /// Fetches it. Until that has come to its end nothing is said to be there.
    pub fn renew(&self, fetch: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
        let told = |error: std::io::Error| format!("{}: {error}", self.path.display());
        if self.path.exists() {
            std::fs::remove_file(&self.path).map_err(told)?;
        }
        fetch()?;
        std::fs::write(&self.path, &self.wanted).map_err(told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_fetched_by_half_for_a_new_list_is_not_what_the_old_one_asked_for() {
        let folder = std::env::temp_dir().join(format!("delta-stamp-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let list = folder.join("list");
        let stamp = |text: &str| {
            std::fs::write(&list, text).unwrap();
            Stamp::new(&folder, &list).unwrap()
        };
        assert!(!stamp("one").holds());
        stamp("one").renew(|| Ok(())).unwrap();
        assert!(stamp("one").holds() && !stamp("two").holds());
        assert_eq!(stamp("two").renew(|| Err("cut".to_owned())), Err("cut".to_owned()));
        // The list is the old one again; what lies there is neither.
        assert!(!stamp("one").holds() && !stamp("two").holds());
        std::fs::remove_dir_all(folder).unwrap();
    }
}
