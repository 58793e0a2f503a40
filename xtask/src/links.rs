//! Links between the documents: a relative link names a file or folder that is there.

use std::path::{Path, PathBuf};

use crate::cargo;

/// Links that lead nowhere.
pub fn problems() -> Vec<String> {
    let root = cargo::root();
    let mut problems = Vec::new();
    for path in documents(&root) {
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let folder = path.parent().unwrap_or(&root);
        for (line, target) in relative_links(&text) {
            if !folder.join(target).exists() {
                let shown = path.strip_prefix(&root).unwrap_or(&path).display();
                problems.push(format!("{shown}:{line}: the link to `{target}` leads nowhere"));
            }
        }
    }
    problems
}

/// Every `.md` file outside of hidden and `target` folders.
fn documents(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let skipped =
                name.to_string_lossy().starts_with('.') || name == "target" || name == "node_modules";
            if path.is_dir() && !skipped {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Line and target of `[text](target)` and `[name]: target`, without anchors, web and mail addresses.
fn relative_links(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let inline = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        let definition = line.strip_prefix('[').and_then(|rest| Some(rest.split_once("]: ")?.1.trim()));
        for target in inline.chain(definition) {
            let target = target.split('#').next().unwrap_or("");
            if !target.is_empty() && !target.contains(':') {
                found.push((index + 1, target));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_links_are_found_in_both_forms() {
        let text = "see [a](x/a.md#part) and [b](https://b.example), [c](#here)\n[d]: y/d.md\n[e]: mailto:e@example.org";
        assert_eq!(relative_links(text), [(1, "x/a.md"), (2, "y/d.md")]);
    }
}
