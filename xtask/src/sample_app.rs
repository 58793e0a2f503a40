//! The sample app of React Native: type-checked, then its screens in a real browser, through react-native-web and over a
//! module in memory. What they must show and do is in [`SCREENS`].

use crate::bindings::typescript::{installed, mirrored, node};
use crate::steps::Outcome;
use crate::{browser, cargo, python};

const APP: &str = "examples/react-native";
/// The app is built with the package's own sources.
const PACKAGE: &str = "bindings/react-native";
/// Its first piece of TypeScript is what a newcomer copies: it is type-checked with the app.
const FIRST_PAGE: &str = "docs/getting-started-react-native.md";
/// What it imports: the form of what its command writes.
const NETWORK: &str = r#"{"sync": "", "list": "", "records": "", "trust": ""}"#;
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
    std::fs::write(app.join("src/FirstPage.tsx"), first_page()?).map_err(|error| error.to_string())?;
    std::fs::write(app.join("src/network.json"), NETWORK).map_err(|error| error.to_string())?;
    node(&place, &app, &["node_modules/typescript/bin/tsc", "-p", "."])?;
    let page = place.join("page");
    node(&app, &app, &["web/build.mjs", &page.to_string_lossy()])?;
    let url = format!("file://{}/index.html", page.display());
    python::run(&python::environment()?, &[SCREENS, browser::installed()?, &url])
}

fn first_page() -> Result<String, String> {
    let page = std::fs::read_to_string(cargo::root().join(FIRST_PAGE));
    let page = page.map_err(|error| format!("{FIRST_PAGE}: {error}"))?;
    let shown = page.split("```tsx\n").nth(1).and_then(|rest| rest.split("```").next());
    shown.map(str::to_owned).ok_or(format!("{FIRST_PAGE} shows no TypeScript"))
}
