//! The API reference: every call and value with its documentation, as one page of Markdown.
//!
//! Read from the same metadata as the bindings, so that it says what they do; sorted by name, so that it differs only where
//! they do.

use std::collections::BTreeMap;
use std::fmt::Write;

use uniffi_meta::{
    DefaultValueMetadata, EnumMetadata, EnumShape, FieldMetadata, FnParamMetadata, LiteralMetadata, Metadata,
    Type,
};

const HEAD: &str = "# API reference

Written by `cargo xtask bindings` from the documentation of `bindings/ffi`; do not edit it. Names are written as in
Python (`open_topic`); Kotlin, Swift and TypeScript say `openTopic`. What is `async` suspends in Kotlin, and is awaited in
Swift, Python and TypeScript. Ids (`TopicId`, say) are types of their own in Kotlin and Swift, `bytes` in Python, and strings of
lower-case hex that the compiler keeps apart in TypeScript. A time is an `Instant`, `Date` or `datetime`, a duration a `Duration`,
`TimeInterval` or `timedelta`; in TypeScript both are milliseconds, or a `Date`. `bytes` are base64 in TypeScript. The
idiomatic layers (`Device` in each language) wrap
`Delta` and add streams; the getting-started pages show them. Swift's has names of its own: the last table has them.

";

/// One heading of the page with what stands below it.
#[derive(Default)]
struct Section {
    documentation: String,
    /// By name, so that they are in order.
    entries: BTreeMap<String, String>,
}

/// The page.
pub fn page(metadata: &[Metadata]) -> String {
    let mut parts: [BTreeMap<String, Section>; 5] = Default::default();
    for item in metadata {
        add(item, &mut parts);
    }
    let titles = ["Objects", "What an app implements", "Functions", "Values", "Ids"];
    let mut page = HEAD.to_owned();
    for (title, sections) in titles.into_iter().zip(parts) {
        let _ = writeln!(page, "## {title}\n");
        for (name, section) in sections {
            let _ = writeln!(page, "### {name}\n\n{}\n", section.documentation);
            for entry in section.entries.into_values() {
                let _ = writeln!(page, "{entry}");
            }
            if !page.ends_with("\n\n") {
                page.push('\n');
            }
        }
    }
    page.trim_end().to_owned() + "\n"
}

fn add(item: &Metadata, [objects, traits, functions, values, ids]: &mut [BTreeMap<String, Section>; 5]) {
    let doc = |text: &Option<String>| paragraph(text.as_deref());
    match item {
        Metadata::Object(object) => {
            let part = if object.imp.is_trait_interface() { traits } else { objects };
            part.entry(object.name.clone()).or_default().documentation = doc(&object.docstring);
        }
        Metadata::CallbackInterface(callback) => {
            traits.entry(callback.name.clone()).or_default().documentation = doc(&callback.docstring);
        }
        Metadata::Constructor(call) => {
            let result = Some(format!("{}{}", call.self_name, throws(&call.throws)));
            let entry = signature(&call.name, call.is_async, &call.inputs, result, &call.docstring);
            let section = objects.entry(call.self_name.clone()).or_default();
            // Constructors come first.
            section.entries.insert(format!(" {}", call.name), entry);
        }
        Metadata::Method(call) => {
            let result = result(&call.return_type, &call.throws);
            let entry = signature(&call.name, call.is_async, &call.inputs, result, &call.docstring);
            objects.entry(call.self_name.clone()).or_default().entries.insert(call.name.clone(), entry);
        }
        Metadata::TraitMethod(call) => {
            let result = result(&call.return_type, &call.throws);
            let entry = signature(&call.name, call.is_async, &call.inputs, result, &call.docstring);
            traits.entry(call.trait_name.clone()).or_default().entries.insert(call.name.clone(), entry);
        }
        Metadata::Func(call) => {
            let result = result(&call.return_type, &call.throws);
            let entry = signature(&call.name, call.is_async, &call.inputs, result, &call.docstring);
            functions.entry(call.name.clone()).or_default().documentation = entry;
        }
        Metadata::Record(record) => {
            let section = values.entry(record.name.clone()).or_default();
            section.documentation = doc(&record.docstring);
            section.entries.insert(String::new(), fields(&record.fields, ""));
        }
        Metadata::Enum(listed) => drop(values.insert(listed.name.clone(), variants(listed))),
        Metadata::CustomType(custom) => {
            ids.entry(custom.name.clone()).or_default().documentation = doc(&custom.docstring);
        }
        Metadata::Namespace(_)
        | Metadata::UdlFile(_)
        | Metadata::UniffiTrait(_)
        | Metadata::ObjectTraitImpl(_) => {}
    }
}

fn variants(listed: &EnumMetadata) -> Section {
    let kind = if matches!(listed.shape, EnumShape::Error { .. }) { "An error. " } else { "" };
    let mut section = Section {
        documentation: format!("{kind}{}", paragraph(listed.docstring.as_deref())),
        ..Section::default()
    };
    for (place, variant) in listed.variants.iter().enumerate() {
        let mut entry = format!("- `{}`: {}\n", variant.name, sentence(variant.docstring.as_deref()));
        entry.push_str(&fields(&variant.fields, "  "));
        section.entries.insert(format!("{place:04}"), entry.trim_end().to_owned());
    }
    section
}

fn fields(fields: &[FieldMetadata], indent: &str) -> String {
    let mut text = String::new();
    for field in fields {
        let default =
            field.default.as_ref().map_or_else(String::new, |value| format!(" = {}", literal(value)));
        let _ = writeln!(
            text,
            "{indent}- `{}: {}{default}`: {}",
            field.name,
            type_name(&field.ty),
            sentence(field.docstring.as_deref())
        );
    }
    text.trim_end().to_owned()
}

fn signature(
    name: &str,
    is_async: bool,
    inputs: &[FnParamMetadata],
    result: Option<String>,
    documentation: &Option<String>,
) -> String {
    let inputs: Vec<String> = inputs.iter().map(parameter).collect();
    let result = result.map_or_else(String::new, |result| format!(" → {result}"));
    let word = if is_async { "async " } else { "" };
    let head = format!("#### `{word}{name}({}){result}`", inputs.join(", "));
    format!("{head}\n\n{}\n", paragraph(documentation.as_deref()))
}

fn parameter(input: &FnParamMetadata) -> String {
    let default = input.default.as_ref().map_or_else(String::new, |value| format!(" = {}", literal(value)));
    format!("{}: {}{default}", input.name, type_name(&input.ty))
}

fn result(value: &Option<Type>, error: &Option<Type>) -> Option<String> {
    match (value, error) {
        (None, None) => None,
        (None, Some(_)) => Some(format!("nothing{}", throws(error))),
        (Some(value), error) => Some(format!("{}{}", type_name(value), throws(error))),
    }
}

fn throws(error: &Option<Type>) -> String {
    error.as_ref().map_or_else(String::new, |error| format!(" or {}", type_name(error)))
}

fn type_name(ty: &Type) -> String {
    match ty {
        Type::UInt8 => "u8".into(),
        Type::Int8 => "i8".into(),
        Type::UInt16 => "u16".into(),
        Type::Int16 => "i16".into(),
        Type::UInt32 => "u32".into(),
        Type::Int32 => "i32".into(),
        Type::UInt64 => "u64".into(),
        Type::Int64 => "i64".into(),
        Type::Float32 => "f32".into(),
        Type::Float64 => "f64".into(),
        Type::Boolean => "bool".into(),
        Type::String => "string".into(),
        Type::Bytes => "bytes".into(),
        Type::Timestamp => "time".into(),
        Type::Duration => "duration".into(),
        Type::Object { name, .. }
        | Type::Record { name, .. }
        | Type::Enum { name, .. }
        | Type::CallbackInterface { name, .. }
        | Type::Custom { name, .. } => name.clone(),
        Type::Box { inner_type } => type_name(inner_type),
        Type::Optional { inner_type } => format!("{}?", type_name(inner_type)),
        Type::Sequence { inner_type } => format!("[{}]", type_name(inner_type)),
        Type::Set { inner_type } => format!("{{{}}}", type_name(inner_type)),
        Type::Map { key_type, value_type } => {
            format!("{{{}: {}}}", type_name(key_type), type_name(value_type))
        }
    }
}

fn literal(value: &DefaultValueMetadata) -> String {
    let DefaultValueMetadata::Literal(value) = value else { return "default".into() };
    match value {
        LiteralMetadata::Boolean(value) => value.to_string(),
        LiteralMetadata::String(value) => format!("{value:?}"),
        LiteralMetadata::UInt(value, ..) => value.to_string(),
        LiteralMetadata::Int(value, ..) => value.to_string(),
        LiteralMetadata::Float(value, _) => value.clone(),
        LiteralMetadata::Enum(name, _) => name.clone(),
        LiteralMetadata::EmptySequence => "[]".into(),
        LiteralMetadata::None => "none".into(),
        _ => "default".into(),
    }
}

/// Rust's links to items become code.
fn paragraph(text: Option<&str>) -> String {
    let text = text.unwrap_or_default().trim();
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("[`") {
        let Some((name, tail)) = after.split_once("`]") else { break };
        let _ = write!(out, "{before}`{name}`");
        // `](crate::…)` after it.
        rest = match tail.strip_prefix('(').and_then(|link| link.split_once(')')) {
            Some((_, tail)) => tail,
            None => tail,
        };
    }
    out + rest
}

fn sentence(text: Option<&str>) -> String {
    paragraph(text).split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_become_code_and_other_text_stays() {
        let text = "See [`Delta::open`](crate::Delta::open) and [`cancel`]; a [link](x) stays, [`so";
        assert_eq!(paragraph(Some(text)), "See `Delta::open` and `cancel`; a [link](x) stays, [`so");
        assert_eq!(sentence(Some(" two\nlines ")), "two lines");
    }
}
