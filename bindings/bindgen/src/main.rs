//! `delta-bindgen LIBRARY CONFIG FOLDER`: writes the Kotlin, Swift and Python of a built `delta-ffi` into
//! FOLDER/{kotlin,swift,python}, and their reference into FOLDER/api.md. `cargo xtask bindings` runs it.
//!
//! The library must not be stripped: what is generated is read from its metadata. Nothing is asked of cargo or the
//! network.

mod amended;
mod reference;
mod swift_names;

use anyhow::{Context, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use uniffi::{GenerateOptions, TargetLanguage, generate};

/// The languages, and where each lies below the folder.
const LANGUAGES: [(TargetLanguage, &str); 3] = [
    (TargetLanguage::Kotlin, "kotlin"),
    (TargetLanguage::Swift, "swift"),
    (TargetLanguage::Python, "python"),
];

fn main() -> anyhow::Result<()> {
    let arguments: Vec<Utf8PathBuf> = std::env::args().skip(1).map(Utf8PathBuf::from).collect();
    let [library, config, folder] = arguments.as_slice() else {
        anyhow::bail!("usage: delta-bindgen LIBRARY CONFIG FOLDER");
    };
    ensure!(library.is_file(), "{library}: no such file; build delta-ffi first");
    for (language, name) in LANGUAGES {
        let options = GenerateOptions {
            languages: vec![language],
            source: library.clone(),
            out_dir: folder.join(name),
            config_override: Some(config.clone()),
            // Formatters are not everywhere, and must not make a difference.
            format: false,
            crate_filter: None,
            metadata_no_deps: true,
        };
        generate(options).with_context(|| format!("{name} cannot be generated from {library}"))?;
    }
    amended::write(folder)?;
    let metadata = uniffi_bindgen::macro_metadata::extract_from_library(library)?;
    let page = folder.join("api.md");
    // The configuration lies in the repository's root.
    let root = config.parent().unwrap_or(Utf8Path::new(""));
    let text = reference::page(&metadata) + &swift_names::part(root)?;
    std::fs::write(&page, text).with_context(|| format!("{page} cannot be written"))?;
    Ok(())
}
