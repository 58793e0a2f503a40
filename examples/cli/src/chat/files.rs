//! Files that messages bring along: sent, and saved once they are here.

use std::path::{Path, PathBuf};

use delta_client::{BlobSource, Client, ClientError};
use delta_core::ops::{BlobId, Content};
use delta_core::store::{Attachment, BlobState};

use crate::text::plain;

/// The beginning of a blob's id that stands beside a file, hex digits.
const DIGITS: usize = 8;

/// How a message's file is shown, with what saves it.
pub fn line(file: &Attachment) -> String {
    let name = file.name.as_deref().unwrap_or(&file.mime);
    let id = file.id.to_string();
    format!("[{}, {}: /save {} FILE]", plain(name), size(file.size), id.get(..DIGITS).unwrap_or_default())
}

/// A size for people, of 1,000 bytes each.
fn size(bytes: u64) -> String {
    let tenths = |unit: u64| format!("{}.{}", bytes / unit, bytes % unit * 10 / unit);
    match bytes {
        0..1_000 => format!("{bytes} bytes"),
        1_000..1_000_000 => format!("{} kB", tenths(1_000)),
        _ => format!("{} MB", tenths(1_000_000)),
    }
}

/// Which of these files has an id that begins like that; why none is taken.
pub fn find<'a>(files: impl Iterator<Item = &'a Attachment>, begins: &str) -> Result<BlobId, &'static str> {
    let begins = begins.to_ascii_lowercase();
    let mut found: Vec<BlobId> = files.map(|file| file.id).collect();
    found.retain(|id| id.to_string().starts_with(&begins));
    found.sort_unstable_by_key(|id| id.0);
    found.dedup();
    match found[..] {
        [id] => Ok(id),
        [] => Err("no message that is shown brings such a file"),
        _ => Err("several files begin like that: `delta tail` shows the whole ids, for `delta blob get`"),
    }
}

/// A message of a file alone, which is sent from now on, and the file.
///
/// # Errors
/// The file cannot be read, or is too large.
pub async fn attach(client: &Client, path: &str) -> Result<(BlobId, Content), ClientError> {
    let path = PathBuf::from(path);
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    let blob = client.attach(BlobSource::File(path), "application/octet-stream".to_owned(), name).await?;
    let attachments = client.attachments(vec![blob]).await?;
    let content =
        Content::MessageSend { text: String::new(), reply: None, mentions: Vec::new(), attachments };
    Ok((blob, content))
}

/// Files that are to be saved once they are here.
#[derive(Default)]
pub struct Saves(Vec<(BlobId, PathBuf)>);

impl Saves {
    /// Fetches a file, to be saved there. Gives what is to be said.
    pub async fn begin(&mut self, client: &Client, blob: BlobId, path: &str) -> String {
        let path = PathBuf::from(path);
        // Its name says nothing of what is in it: that it is replaced could not be undone.
        if path.exists() {
            return is_there(&path);
        }
        if self.0.iter().any(|(_, taken)| *taken == path) {
            return format!("not saved: {} is being fetched already", path.display());
        }
        if let Err(error) = client.fetch_blob(blob).await {
            return format!("not saved: {error}");
        }
        let told = format!("{} is being fetched", path.display());
        self.0.push((blob, path));
        told
    }

    /// Saves what is here by now. Gives what is to be said.
    pub async fn go_on(&mut self, client: &Client) -> Option<String> {
        let mut told = None;
        for (blob, path) in std::mem::take(&mut self.0) {
            match save(client, blob, &path).await {
                None => self.0.push((blob, path)),
                Some(outcome) => told = Some(plain(&outcome)),
            }
        }
        told
    }
}

fn is_there(path: &Path) -> String {
    format!("not saved: {} is there already", path.display())
}

/// Nothing while it is not decided.
async fn save(client: &Client, blob: BlobId, path: &Path) -> Option<String> {
    let path_shown = path.display();
    let done = match client.blob_status(blob).await.map(|status| status.state) {
        Ok(BlobState::Fetching) => return None,
        // Another one may have come there meanwhile.
        Ok(BlobState::Here | BlobState::Sending) if path.exists() => return Some(is_there(path)),
        Ok(BlobState::Here | BlobState::Sending) => client.write_blob(blob, path).await,
        Ok(BlobState::Corrupt) => return Some(format!("not saved: {path_shown} is not what was announced")),
        Ok(BlobState::Unavailable | BlobState::Absent) => {
            return Some(format!("not saved: the server does not have all of {path_shown} (yet)"));
        }
        Err(error) => Err(error),
    };
    Some(match done {
        Ok(()) => format!("saved as {path_shown}"),
        Err(error) => format!("not saved: {error}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(first: u8, last: u8, name: Option<&str>) -> Attachment {
        let mut id = [first; 32];
        id[31] = last;
        Attachment { id: BlobId(id), size: 51_234, mime: "image/png".into(), name: name.map(str::to_owned) }
    }

    #[test]
    fn a_file_is_shown_with_what_saves_it() {
        assert_eq!(line(&file(0xab, 0, Some("a.png"))), "[a.png, 51.2 kB: /save abababab FILE]");
        assert_eq!(line(&file(0xab, 0, None)), "[image/png, 51.2 kB: /save abababab FILE]");
        assert!(!line(&file(1, 0, Some("\u{1b}[2J\n"))).contains(char::is_control));
    }

    #[tokio::test]
    async fn nothing_that_is_there_is_replaced_also_when_it_comes_while_a_file_is_fetched() {
        let folder = tempfile::tempdir().unwrap();
        let config = delta_client::Config::new(folder.path().join("device.db"), [1; 32]);
        let client = Client::open(config).await.unwrap();
        let path = folder.path().join("a.png");
        let (shown, mut saves, mut blobs) = (path.to_str().unwrap(), Saves::default(), Vec::new());
        for bytes in [b"one", b"two"] {
            let source = BlobSource::Bytes(bytes.as_slice().into());
            blobs.push(client.attach(source, String::new(), None).await.unwrap());
        }
        let told = saves.begin(&client, blobs[0], shown).await;
        assert!(told.ends_with("is being fetched"), "{told}");
        let told = saves.begin(&client, blobs[1], shown).await;
        assert!(told.ends_with("is being fetched already"), "{told}");
        std::fs::write(&path, "somebody's").unwrap();
        let told = saves.go_on(&client).await.unwrap();
        assert!(told.ends_with("is there already"), "{told}");
        assert_eq!(std::fs::read(&path).unwrap(), b"somebody's");
        assert_eq!(saves.go_on(&client).await, None);
        client.close().await.unwrap();
    }

    #[test]
    fn sizes_are_for_people() {
        let sizes = [0, 999, 1_000, 999_999, 1_000_000, 67_108_864].map(size);
        assert_eq!(sizes, ["0 bytes", "999 bytes", "1.0 kB", "999.9 kB", "1.0 MB", "67.1 MB"]);
    }

    #[test]
    fn a_file_is_found_by_how_its_id_begins_unless_several_do() {
        let files = [file(0xab, 1, None), file(0xab, 2, None), file(0xcd, 1, None), file(0xcd, 1, None)];
        assert_eq!(find(files.iter(), "CDCD"), Ok(files[2].id), "twice the same");
        assert!(find(files.iter(), "abab").unwrap_err().contains("several"));
        assert_eq!(find(files.iter(), &files[1].id.to_string()), Ok(files[1].id));
        assert!(find(files.iter(), "ef").unwrap_err().contains("no message"));
    }
}
