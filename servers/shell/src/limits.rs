//! Limits an operator can set by name: `--limit name=value`, 0 for no limit.

use thiserror::Error;

/// A limit option is wrong. The operator is at fault.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LimitError {
    /// Not `name=value` with a whole number.
    #[error("expected name=value with a whole number, 0 for no limit")]
    Form,
    /// There is no such limit.
    #[error("there is no limit of that name; there are: {0}")]
    Name(String),
}

/// `name=value`, the name among `names`.
pub fn parse(text: &str, names: &[&'static str]) -> Result<(&'static str, u64), LimitError> {
    let (name, value) = text.split_once('=').ok_or(LimitError::Form)?;
    let known = names.iter().find(|known| **known == name.trim());
    let known = known.ok_or_else(|| LimitError::Name(names.join(", ")))?;
    Ok((known, value.trim().parse().map_err(|_| LimitError::Form)?))
}

/// Makes a server's `Limits`, with their defaults, and `LimitOption`, one `name=value` of the command line.
#[macro_export]
macro_rules! limits {
    ($($(#[doc = $doc:literal])* $name:ident = $default:expr;)*) => {
        /// Every limit an operator can set.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Limits {
            $($(#[doc = $doc])* pub $name: u64,)*
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }

        impl Limits {
            /// Sets one limit.
            pub fn set(&mut self, limit: &LimitOption) {
                match limit.name {
                    $(stringify!($name) => self.$name = limit.value,)*
                    _ => {}
                }
            }

            /// Names and values, in the order of the documentation.
            pub fn list(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }
        }

        /// One `name=value`.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct LimitOption {
            name: &'static str,
            value: u64,
        }

        impl std::str::FromStr for LimitOption {
            type Err = $crate::limits::LimitError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let (name, value) = $crate::limits::parse(text, &[$(stringify!($name),)*])?;
                Ok(Self { name, value })
            }
        }
    };
}
