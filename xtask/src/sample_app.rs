//! The sample app of React Native: type-checked, then its screens in a real browser, through react-native-web and over a
//! module in memory. What they must show and do is in [`SCREENS`].

use crate::bindings::typescript::{installed, mirrored, node};
use crate::steps::Outcome;
use crate::{browser, python};

const APP: &str = "examples/react-native";
/// The app is built with the package's own sources.
const PACKAGE: &str = "bindings/react-native";
/// Drives the browser; needs the Python client's packages.
const SCREENS: &str = "examples/react-native/tests/screens.py";

/// Draws the screens and uses them.
pub fn screens() -> Outcome {
    match look() {
        Ok(()) => Outcome::Passed,
        Err(why) => {
            println!("{why}");
            Outcome::Failed
        }
    }
}

fn look() -> Result<(), String> {
    let place = installed()?;
    mirrored(PACKAGE, &place)?;
    let app = mirrored(APP, &place)?;
    node(&place, &app, &["node_modules/typescript/bin/tsc", "-p", "."])?;
    let page = place.join("page");
    node(&app, &app, &["web/build.mjs", &page.to_string_lossy()])?;
    let url = format!("file://{}/index.html", page.display());
    python::run(&python::environment()?, &[SCREENS, browser::installed()?, &url])
}
