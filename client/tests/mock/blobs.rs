//! Blobs and the files that they are written into.

use delta_client::BlobSource;

use crate::device::{Device, ticket};

#[tokio::test]
async fn a_blob_is_written_beside_files_of_its_name_and_touches_none_of_them() {
    let (a, folder) = (Device::offline(1, &ticket(1)).await, tempfile::tempdir().unwrap());
    let blob = a.client.attach(BlobSource::Bytes(b"photo".as_slice().into()), String::new(), None).await;
    let (blob, path) = (blob.unwrap(), folder.path().join("photo"));
    for name in ["photo.part", "photo.part1"] {
        std::fs::write(folder.path().join(name), name).unwrap();
    }
    a.client.write_blob(blob, &path).await.unwrap();
    // What cannot be written leaves them alone, too.
    a.client.drop_blob(blob).await.unwrap();
    assert_eq!(a.client.write_blob(blob, &path).await.unwrap_err().code(), "unknown_blob");
    assert_eq!(std::fs::read(&path).unwrap(), b"photo");
    for name in ["photo.part", "photo.part1"] {
        assert_eq!(std::fs::read(folder.path().join(name)).unwrap(), name.as_bytes());
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3);
}
